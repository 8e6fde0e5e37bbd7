"""The convolution operator D: K coefficient maps -> an image of C channels, and its adjoint.

    (D x)_c = sum_k d_{k,c} (*) x_k

with circular boundary at the image's size and the filters' origin at their top left corner; the adjoint is circular
correlation. Both are products in the frequency domain, where the suffix f says that a tensor is an `rfft2`.
"""

from threading import Lock

import torch
from torch import Tensor

from stl_ray.csc.dictionary import Dictionary
from stl_ray.csc.fourier import irfft2, rfft2
from stl_ray.errors import TensorError

KEPT_BYTES = 2**30
"""Bytes of operators that are kept, unless the newest alone is larger: 64 filters at 224 pixels take 78 MB."""


class ConvolutionOperator:
    """D and its adjoint for one dictionary at one image size, with the spectra of the filters at hand.

    Args:
        filters: (K, C, S, S).
        height: of the images, at least S.
        width: of the images, at least S.
    """

    def __init__(self, filters: Tensor, height: int, width: int) -> None:
        self.size = (height, width)
        self.filters = filters
        # (C, K, H, W//2+1): one channel's spectra lie together, in the strides in which `rfft2` returns those of maps,
        # for the products below. The conjugate is stored because a lazy one is resolved again at every product.
        side = filters.shape[-1]
        padded = torch.nn.functional.pad(filters.transpose(0, 1), (0, width - side, 0, height - side))
        self.df = rfft2(padded)
        self.df_conj = self.df.conj().resolve_conj()
        self._inverses: dict[float, Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the spectra and of the inverses so far."""
        return sum(spectra.nbytes for spectra in (self.df, self.df_conj, *self._inverses.values()))

    def transform(self, images: Tensor) -> Tensor:
        """(..., H, W) real -> (..., H, W//2+1) complex."""
        return rfft2(images)

    def inverse_transform(self, spectra: Tensor) -> Tensor:
        """(..., H, W//2+1) complex -> (..., H, W) real."""
        return irfft2(spectra, self.size)

    def synthesize(self, xf: Tensor) -> Tensor:
        """D in the frequency domain: maps (B, K, ...) -> channels (B, C, ...)."""
        # Product and sum per channel: a complex einsum takes three times as long.
        return torch.stack([(df * xf).sum(1) for df in self.df], dim=1)

    def correlate(self, sf: Tensor) -> Tensor:
        """The adjoint in the frequency domain: channels (B, C, ...) -> maps (B, K, ...)."""
        xf: Tensor = self.df_conj[0] * sf[:, :1]
        for channel in range(1, sf.shape[1]):
            xf.addcmul_(self.df_conj[channel], sf[:, channel : channel + 1])
        return xf

    def forward(self, x: Tensor) -> Tensor:
        """D x: maps (B, K, H, W) -> images (B, C, H, W)."""
        return self.inverse_transform(self.synthesize(self.transform(x)))

    def adjoint(self, s: Tensor) -> Tensor:
        """D^T s: images (B, C, H, W) -> maps (B, K, H, W)."""
        return self.inverse_transform(self.correlate(self.transform(s)))

    def solve(self, rho: float, bf: Tensor) -> Tensor:
        """(rho I + D D^H)^{-1} b at every frequency, a C x C system: (B, C, ...) -> (B, C, ...)."""
        if rho not in self._inverses:
            gram = torch.einsum("ckhw,ekhw->hwce", self.df.to(torch.complex128), self.df_conj.to(torch.complex128))
            eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
            inverse = torch.linalg.inv(gram + rho * eye).permute(2, 3, 0, 1)
            self._inverses[rho] = inverse.to(self.df.dtype).contiguous()
        return (self._inverses[rho] * bf[:, None]).sum(2)


_Key = tuple[Dictionary, int, int, torch.dtype, torch.device]
_kept: dict[_Key, ConvolutionOperator] = {}  # by last use, the latest at the end
_lock = Lock()


def operator_of(
    dictionary: Dictionary, height: int, width: int, dtype: torch.dtype, device: torch.device
) -> ConvolutionOperator:
    """The operator of `dictionary` at an image size; those used last are kept, KEPT_BYTES of them.

    Raises:
        TensorError: the image is smaller than the filters.
        DictionaryError: the filters were changed in place.
    """
    dictionary.require_unchanged()
    if min(height, width) < dictionary.side:
        raise TensorError(
            "images smaller than the filters",
            expected=f"sides of at least {dictionary.side}",
            got=f"{height} x {width}",
        )
    key = (dictionary, height, width, dtype, device)
    with _lock:
        operator = _kept.pop(key, None)
        if operator is None:
            operator = ConvolutionOperator(dictionary.filters.detach().to(device, dtype), height, width)
            room = KEPT_BYTES - operator.nbytes
            while _kept and sum(kept.nbytes for kept in _kept.values()) > room:
                del _kept[next(iter(_kept))]
        _kept[key] = operator
        return operator

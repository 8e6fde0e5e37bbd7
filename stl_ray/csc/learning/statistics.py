"""Sufficient statistics of codes and images for the update of filters: the coefficients of the quadratic.

    Q(d) = 1/2 sum_n ||s_n - sum_k d_k (*) z_{n,k}||^2 = 1/2 <d, A d> - <b, d> + 1/2 sum_n ||s_n||^2

for fixed codes z. A and b are correlations, A_{kl}(lag) = sum_p z_k(p) z_l(p + lag) and b_{kc}(a) = sum_p z_k(p) s_c(p + a),
and filters of S pixels need them for lags shorter than S only: their size is that of K^2 filters, whatever the number
and size of the images. Source: Mairal et al. 2010, for patches.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from stl_ray.csc import active_set, native
from stl_ray.csc.codes import Codes
from stl_ray.csc.fourier import irfft2, rfft2
from stl_ray.csc.learning.sums import total

IMAGES_AT_ONCE = 16
"""Images whose spectra are held together where there is no native core."""


@dataclass(frozen=True)
class CodeStatistics:
    """Sums over images, which may differ in size.

    Attributes:
        gram: A, (F, K, K, 2): real and imaginary parts, which add up like it and can be stored anywhere, at the F
            frequencies of the 2 S x 2 S torus of lags.
        cross: b, (K, C, S, S).
        usage: sum over n and p of z_{n,k}(p)^2, (K,): the diagonal of A at lag zero.
        energy: sum of ||s_n||^2, () float64.
        l1: sum of ||z_n||_1, () float64.
        images: their number, () float64; a fraction where statistics were faded.
    """

    gram: Tensor
    cross: Tensor
    usage: Tensor
    energy: Tensor
    l1: Tensor
    images: Tensor

    @classmethod
    def of(cls, codes: Codes, highpass: Tensor, side: int) -> Self:
        """Statistics of the codes of images (N, C, H, W), for filters of `side` pixels."""
        coefficients = codes.coefficients
        if _is_native(coefficients):
            lags, cross = active_set.correlations(coefficients, highpass, side)
        else:
            lags, cross = _by_spectra(codes.maps, highpass, side)
        positions = torch.arange(1 - side, side, device=lags.device) % (2 * side)
        torus = lags.new_zeros((*lags.shape[:2], 2 * side, 2 * side))
        torus[:, :, positions[:, None], positions] = lags
        return cls(
            gram=torch.view_as_real(_by_frequency(torus)),
            cross=cross,
            usage=torus[:, :, 0, 0].diagonal().clone(),
            energy=total(highpass.square()),
            l1=l1_of(codes),
            images=torch.tensor(float(len(highpass)), dtype=torch.float64, device=highpass.device),
        )

    def tensors(self) -> dict[str, Tensor]:
        """The attributes by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to(self, device: torch.device | str) -> Self:
        """The same statistics on another device."""
        return type(self)(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def joined(self, other: Self, fading: float = 1.0) -> Self:
        """These statistics plus `fading` times the others."""
        others = other.tensors()
        return type(self)(**{name: tensor + fading * others[name] for name, tensor in self.tensors().items()})

    def curved(self, filters: Tensor) -> Tensor:
        """A d for filters (K, C, S, S), of the same shape."""
        side = filters.shape[-1]
        df = _by_frequency(torch.nn.functional.pad(filters, (0, side, 0, side)))
        return _spatial(torch.bmm(torch.view_as_complex(self.gram), df), (2 * side, 2 * side))[..., :side, :side]

    def objective(self, filters: Tensor, lmbda: float) -> float:
        """Mean over the images of Q(filters) + lambda ||z||_1."""
        quadratic = total(filters * (self.curved(filters) / 2 - self.cross))
        return float((self.energy / 2 + quadratic + lmbda * self.l1) / self.images)


def l1_of(codes: Codes) -> Tensor:
    """||z||_1 of all images together, () float64."""
    coefficients = codes.coefficients
    return total((coefficients.values() if coefficients.is_sparse else coefficients).abs())


def _is_native(coefficients: Tensor) -> bool:
    kind = coefficients.device.type, coefficients.dtype
    return coefficients.is_sparse and kind == ("cpu", torch.float32) and native.available()


def _by_spectra(maps: Tensor, highpass: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """A and b from dense maps (N, K, H, W), on any device."""
    size = (highpass.shape[-2], highpass.shape[-1])
    frequencies, filters, channels = size[0] * (size[1] // 2 + 1), maps.shape[1], highpass.shape[1]
    complex_type = torch.complex64 if maps.dtype == torch.float32 else torch.complex128
    gram = torch.zeros((frequencies, filters, filters), dtype=complex_type, device=maps.device)
    cross = torch.zeros((frequencies, filters, channels), dtype=complex_type, device=maps.device)
    for z, s in zip(*(torch.split(batch, IMAGES_AT_ONCE) for batch in (maps, highpass)), strict=True):
        zf, sf = _by_frequency(z), _by_frequency(s)
        zf_conj = zf.conj().resolve_conj().transpose(1, 2)
        gram.baddbmm_(zf_conj, zf)
        cross.baddbmm_(zf_conj, sf)
    rows, columns = (torch.arange(1 - side, side, device=maps.device) % length for length in size)
    lags = _spatial(gram, size).index_select(-2, rows).index_select(-1, columns)
    return lags, _spatial(cross, size)[..., :side, :side].contiguous()


def _by_frequency(maps: Tensor) -> Tensor:
    """Spectra (F, M, L) of real maps (M, L, H, W)."""
    return rfft2(maps).flatten(2).permute(2, 0, 1).contiguous()


def _spatial(spectra: Tensor, size: tuple[int, int]) -> Tensor:
    """Spectra (F, K, M) over a torus of `size` as functions of the lag, (K, M, H, W)."""
    return irfft2(spectra.permute(1, 2, 0).reshape(*spectra.shape[1:], size[0], size[1] // 2 + 1), size)

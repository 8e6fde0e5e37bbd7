"""The filters' half of dictionary learning: initial filters, and their update for fixed codes.

    minimise over d in the constraint set   Q(d) = 1/2 sum_n ||s_n - sum_k d_k (*) z_{n,k}||^2

Q depends on the codes only through A_f = sum_n conj(z_f) z_f^T and b_f = sum_n conj(z_f) s_f^T at every frequency f,
and of those only through correlations over lags shorter than a filter. So its gradient A d - b costs the same for one
small image and for a thousand large ones. The constraint set: S x S support, zero mean in each channel, unit joint norm.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from stl_ray.errors import TensorError

STEPS = 10
"""Gradient steps of one update."""

POWER_STEPS = 10
"""Power iterations that estimate the curvature of Q."""

CURVATURE_MARGIN = 1.05
"""What a power iteration may have missed."""

IMAGES_AT_ONCE = 16
"""Images whose spectra are held together while statistics are summed."""

FLAT = 1e-3
"""Norm of a patch of the high band below which it is flat and tells a filter nothing."""

DRAWS = 20
"""Patches looked at for each initial filter before the images are called flat."""


def constrain(filters: Tensor) -> Tensor:
    """The nearest filters (K, C, S, S) of zero mean in each channel and unit joint norm."""
    centred = _centred(filters)
    unit: Tensor = centred / centred.flatten(1).norm(dim=1)[:, None, None, None]
    return unit


def initial_filters(highpass: Tensor, count: int, side: int, generator: torch.Generator) -> Tensor:
    """`count` random patches of the high band (N, C, H, W) that are not flat, as filters (K, C, S, S).

    Raises:
        TensorError: hardly any patch has content.
    """
    draws = DRAWS * count
    images, _, height, width = highpass.shape
    bounds = (images, height - side + 1, width - side + 1)
    where = torch.stack([torch.randint(bound, (draws,), generator=generator) for bound in bounds], dim=1)
    patches = torch.stack([highpass[n, :, i : i + side, j : j + side] for n, i, j in where.tolist()])
    textured = patches[_centred(patches).flatten(1).norm(dim=1) > FLAT]
    if len(textured) < count:
        raise TensorError(
            "the images are too flat to learn filters from",
            expected=f"at least {count} textured patches among {draws}",
            got=len(textured),
        )
    return constrain(textured[:count])


@dataclass(frozen=True)
class CodeStatistics:
    """All that the update needs to know of codes and images of one size.

    Attributes:
        gram: A, (F, K, K) complex, at the F frequencies of a torus just large enough for the lags.
        cross: b, (F, K, C) complex.
        energy: sum of ||s_n||^2.
        l1: sum of ||z_n||_1.
        images: their number; a fraction where statistics were faded.
        size: sides of that torus, (H, W).
    """

    gram: Tensor
    cross: Tensor
    energy: float
    l1: float
    images: float
    size: tuple[int, int]

    @classmethod
    def of(cls, maps: Tensor, highpass: Tensor, side: int) -> Self:
        """Statistics of codes (N, K, H, W) of images (N, C, H, W), for filters of `side` pixels."""
        size = (highpass.shape[-2], highpass.shape[-1])
        frequencies, filters, channels = size[0] * (size[1] // 2 + 1), maps.shape[1], highpass.shape[1]
        complex_type = torch.complex64 if maps.dtype == torch.float32 else torch.complex128
        gram = torch.zeros((frequencies, filters, filters), dtype=complex_type, device=maps.device)
        cross = torch.zeros((frequencies, filters, channels), dtype=complex_type, device=maps.device)
        for z, s in zip(*(torch.split(batch, IMAGES_AT_ONCE) for batch in (maps, highpass)), strict=True):
            zf = torch.fft.rfft2(z).flatten(2).permute(2, 1, 0).contiguous()
            sf = torch.fft.rfft2(s).flatten(2).permute(2, 0, 1).contiguous()
            zf_conj = zf.conj().resolve_conj()
            gram.baddbmm_(zf_conj, zf.transpose(1, 2))
            cross.baddbmm_(zf_conj, sf)
        energy, l1 = float(highpass.double().square().sum()), float(maps.double().abs().sum())
        (gram, torus), (cross, _) = (_short_lags(spectra, size, side) for spectra in (gram, cross))
        return cls(gram, cross, energy, l1, len(maps), torus)

    def joined(self, older: Self, fading: float) -> Self:
        """These statistics plus `fading` times older ones."""
        return replace(
            self,
            gram=self.gram + fading * older.gram,
            cross=self.cross + fading * older.cross,
            energy=self.energy + fading * older.energy,
            l1=self.l1 + fading * older.l1,
            images=self.images + fading * older.images,
        )

    def curved(self, filters: Tensor) -> Tensor:
        """A d within the filters' support, (K, C, S, S)."""
        df = torch.fft.rfft2(filters, s=self.size).flatten(2).permute(2, 0, 1).contiguous()
        return self._within_support(torch.bmm(self.gram, df), filters.shape[-1])

    def linear(self, side: int) -> Tensor:
        """The linear term b within a support of that side, (K, C, S, S)."""
        return self._within_support(self.cross, side)

    def objective(self, filters: Tensor, lmbda: float) -> float:
        """Mean over the images of Q(filters) + lambda ||z||_1."""
        quadratic = (filters * (self.curved(filters) / 2 - self.linear(filters.shape[-1]))).double().sum()
        return (self.energy / 2 + float(quadratic) + lmbda * self.l1) / self.images

    def _within_support(self, spectra: Tensor, side: int) -> Tensor:
        return _correlations(spectra, self.size)[..., :side, :side]


def _correlations(spectra: Tensor, size: tuple[int, int]) -> Tensor:
    """Spectra (F, K, M) over a torus of `size` as functions of the lag, (K, M, H, W)."""
    maps = spectra.permute(1, 2, 0).reshape(*spectra.shape[1:], size[0], size[1] // 2 + 1)
    spatial: Tensor = torch.fft.irfft2(maps, s=size)
    return spatial


def _short_lags(spectra: Tensor, size: tuple[int, int], side: int) -> tuple[Tensor, tuple[int, int]]:
    """The same spectra (F, K, M) on the smallest torus that keeps all lags within +-(side - 1), and its size."""
    correlations = _correlations(spectra, size)
    torus = (min(size[0], 2 * side), min(size[1], 2 * side))
    for axis, (full, small) in zip((-2, -1), zip(size, torus, strict=True), strict=True):
        if small < full:
            lags = torch.arange(1 - side, side, device=spectra.device)
            kept = correlations.index_select(axis, lags % full)
            shape = list(kept.shape)
            shape[axis] = small
            correlations = kept.new_zeros(shape).index_copy_(axis, lags % small, kept)
    return torch.fft.rfft2(correlations).flatten(2).permute(2, 0, 1).contiguous(), torus


def update_filters(filters: Tensor, statistics: CodeStatistics) -> Tensor:
    """Accelerated projected gradient on Q from `filters` (K, C, S, S) in the constraint set (Beck and Teboulle 2009)."""
    linear = statistics.linear(filters.shape[-1])
    curvature = CURVATURE_MARGIN * _curvature(filters, statistics)
    current = ahead = filters
    momentum = 1.0
    for _ in range(STEPS):
        following = constrain(ahead - (statistics.curved(ahead) - linear) / curvature)
        next_momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = following + (momentum - 1) / next_momentum * (following - current)
        current, momentum = following, next_momentum
    return current


def _curvature(filters: Tensor, statistics: CodeStatistics) -> float:
    """The largest eigenvalue of Q's Hessian on filters of zero mean, by power iteration."""
    direction, eigenvalue = filters, 1.0
    for _ in range(POWER_STEPS):
        image = _centred(statistics.curved(direction / direction.norm()))
        direction, eigenvalue = image, float(image.norm())
    return eigenvalue


def _centred(filters: Tensor) -> Tensor:
    return filters - filters.mean((2, 3), keepdim=True)

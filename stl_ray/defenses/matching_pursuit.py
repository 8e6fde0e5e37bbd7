"""Orthogonal matching pursuit: each signal by the few atoms that explain it best, greedily.

    r = s;  kappa times:  a = the atom of the largest |<r, a>|;  r = s - P s,  P the projection onto the atoms so far

Source: Pati, Rezaiifar and Krishnaprasad 1993. The atoms chosen are orthogonalised one by one (modified Gram-Schmidt,
twice), so that P s is a sum over an orthonormal basis and the correlations are one matrix product; there is no Gram matrix
of the dictionary, which takes 400 MB for 10,000 atoms.
"""

import torch
from torch import Tensor

from stl_ray.errors import TensorError
from stl_ray.tiling import in_tiles

TILE = 128
"""Signals coded at once: what becomes of one depends on no other."""


def matching_pursuit(signals: Tensor, atoms: Tensor, sparsity: int) -> tuple[Tensor, Tensor]:
    """Choose at most `sparsity` atoms for every signal.

    A signal has fewer once no atom explains what is left of it. Of atoms that correlate equally the first is taken.

    Args:
        signals: (N, n) float, N >= 1.
        atoms: (K, n) of the same type and device, each of norm 1.
        sparsity: 1 or more.

    Returns:
        The atoms (N, sparsity) int64 in the order of their choice, -1 where there is none, and an orthonormal basis
        (N, sparsity, n) of their span, with zeros there.

    Raises:
        TensorError: signals and atoms do not fit together, or the sparsity is below 1.
    """
    _require_fitting(signals, atoms, sparsity)
    support, basis = in_tiles(lambda tile: _pursue(tile, atoms, sparsity), signals, size=TILE)
    return support, basis


def approximated(signals: Tensor, atoms: Tensor, sparsity: int) -> Tensor:
    """P s (N, n): `matching_pursuit` and `project` with its basis, which is not kept.

    Raises:
        TensorError: as `matching_pursuit`.
    """
    _require_fitting(signals, atoms, sparsity)
    return in_tiles(lambda tile: (_project(tile, _pursue(tile, atoms, sparsity)[1]),), signals, size=TILE)[0]


def project(signals: Tensor, basis: Tensor) -> Tensor:
    """P s: the signals (N, n) projected onto the span of an orthonormal basis (N, k, n) each; P is its own transpose."""
    return in_tiles(lambda *tile: (_project(*tile),), signals, basis, size=TILE)[0]


def _pursue(signals: Tensor, atoms: Tensor, sparsity: int) -> tuple[Tensor, Tensor]:
    # A smaller correlation is rounding; it is what an atom in the span of those before it has.
    least = 32 * torch.finfo(signals.dtype).eps * signals.norm(dim=1)
    support = signals.new_full((len(signals), sparsity), -1, dtype=torch.int64)
    basis = signals.new_zeros(len(signals), sparsity, signals.shape[1])
    residual, going = signals, torch.ones_like(least, dtype=torch.bool)
    for step in range(sparsity):
        largest, chosen = (residual @ atoms.T).abs_().max(1)
        direction = atoms[chosen]
        for _ in range(2):
            direction = direction - _project(direction, basis[:, :step])
        going = going & (largest > least)
        support[:, step] = torch.where(going, chosen, -1)
        basis[:, step] = torch.where(going[:, None], direction / direction.norm(dim=1, keepdim=True), 0)
        residual = residual - _project(residual, basis[:, step : step + 1])
    return support, basis


def _project(signals: Tensor, basis: Tensor) -> Tensor:
    return (basis * (basis * signals[:, None]).sum(2, keepdim=True)).sum(1)


def _require_fitting(signals: Tensor, atoms: Tensor, sparsity: int) -> None:
    if signals.ndim != 2 or atoms.ndim != 2 or signals.shape[1] != atoms.shape[1] or 0 in (len(signals), len(atoms)):
        got = f"{tuple(signals.shape)} and {tuple(atoms.shape)}"
        raise TensorError("signals and atoms do not fit together", expected="(N, n) and (K, n)", got=got)
    if sparsity < 1:
        raise TensorError("sparsity out of range", expected="at least 1", got=sparsity)

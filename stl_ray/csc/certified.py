"""The exact tier of methods that work in single precision: a certificate in float64, and ADMM where it is not met."""

from dataclasses import replace

import torch
from torch import Tensor

from stl_ray.csc import admm
from stl_ray.csc.certificate import duality_gap
from stl_ray.csc.codes import Accuracy, Codes, SolveStatus
from stl_ray.csc.dictionary import Dictionary
from stl_ray.csc.operator import operator_of
from stl_ray.csc.tiles import tile_size


def certify(codes: Codes, s: Tensor, dictionary: Dictionary, lmbda: float, gap: float) -> Codes:
    """The codes of signals s (B, C, H, W) with their duality gaps; CONVERGED where the gap is at most `gap`."""
    operator = operator_of(dictionary, s.shape[-2], s.shape[-1], torch.float64, s.device)
    tiles = torch.split(torch.arange(len(s), device=s.device), tile_size(s.shape[-2], s.shape[-1], s.device))
    gaps = [duality_gap(codes.select(tile).maps.double(), s[tile].double(), operator, lmbda) for tile in tiles]
    bound = torch.cat(gaps)
    status = torch.where(bound <= gap, SolveStatus.CONVERGED, SolveStatus.MAX_ITERATIONS)
    return replace(codes, gap=bound, status=torch.where(bound.isfinite(), status, SolveStatus.DIVERGED))


def finish(codes: Codes, s: Tensor, dictionary: Dictionary, lmbda: float, accuracy: Accuracy) -> Codes:
    """The certified codes unchanged, the others solved further by `admm` in float64."""
    rest = (codes.status != SolveStatus.CONVERGED).nonzero()[:, 0]
    if not len(rest):
        return codes
    pieces = [codes.select(torch.arange(len(s), device=s.device)[codes.status == SolveStatus.CONVERGED])]
    # ADMM cannot start from coefficients that are not finite.
    start = codes.select(rest).maps.nan_to_num(0, 0, 0)
    finished = admm.solve(s[rest], dictionary, lmbda, accuracy, start)
    finished = replace(finished, iterations=finished.iterations + codes.iterations[rest])
    pieces.append(finished.sparse() if codes.coefficients.is_sparse else finished)
    order = torch.cat([(codes.status == SolveStatus.CONVERGED).nonzero()[:, 0], rest]).argsort()
    return Codes.cat(pieces).select(order)

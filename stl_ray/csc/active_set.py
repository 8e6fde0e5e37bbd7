"""CBPDN by coordinate descent on an active set, in the native core: native/active_set.hpp describes the algorithm.

The fastest method on a CPU. A few of a thousand coefficients are not zero, and only they are ever stored. Every image is
solved wholly by one thread, so no bit depends on its batch mates or on the number of threads.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from stl_ray.csc import native
from stl_ray.csc.certified import certify, finish
from stl_ray.csc.codes import Accuracy, Codes, Descent
from stl_ray.csc.dictionary import Dictionary
from stl_ray.errors import TensorError

TIGHTENING = 0.1
"""Factor on both tolerances after a solve that missed the duality gap asked for."""

TIGHTEST = 1e-5
"""Violation, as a share of lambda, below which single precision gains nothing more."""


def solve(
    s: Tensor, dictionary: Dictionary, lmbda: float, accuracy: Accuracy, start: Tensor | None, instruction_set: str = ""
) -> Codes:
    """Solve for every image on its own; arguments as for `solve_cbpdn`, already checked.

    Args:
        s: (B, C, H, W) float32 on a CPU.
        dictionary: the filters.
        lmbda: the l1 weight.
        accuracy: when to stop.
        start: (B, K, H, W), strided or sparse.
        instruction_set: one of `native.instruction_sets()`; "" is the fastest. Each rounds in its own way.

    Raises:
        TensorError: the native core or the instruction set is missing, or the signal is not float32 on a CPU.
        ConfigError: as `native.instruction_sets`.
    """
    if not native.available():
        raise TensorError("the native core is not built", expected='method "admm"', got="active_set")
    allowed = native.instruction_sets()
    if instruction_set and instruction_set not in allowed:
        problem = f"an instruction set that the processor lacks or {native.CAP} forbids"
        raise TensorError(problem, expected=", ".join(allowed), got=instruction_set)
    if s.dtype != torch.float32 or s.device.type != "cpu":
        raise TensorError("a signal of another kind", expected="float32 on a CPU", got=f"{s.dtype} on {s.device}")
    if accuracy.gap is None:
        return descend(s, dictionary, lmbda, accuracy.descent, start, instruction_set)
    return _certified(s, dictionary, lmbda, accuracy, accuracy.gap, start, instruction_set)


def descend(
    s: Tensor, dictionary: Dictionary, lmbda: float, descent: Descent, start: Tensor | None, instruction_set: str = ""
) -> Codes:
    """One solve, to tolerances on the coefficients.

    Args:
        s: (B, C, H, W) float32.
        dictionary: the filters.
        lmbda: the l1 weight.
        descent: when to stop.
        start: (B, K, H, W), strided or sparse.
        instruction_set: of the native core, "" for the best.
    """
    offsets, filters, rows, columns, values, synthesis, status, iterations = native.core.solve(
        _core(dictionary, instruction_set or native.instruction_sets()[0]),
        s.detach().contiguous().numpy(),
        lmbda=lmbda,
        violation=descent.violation,
        change=descent.change,
        max_iterations=descent.max_iterations,
        start=None if start is None else _atoms(start),
        threads=torch.get_num_threads(),
    )
    images = np.repeat(np.arange(len(s)), np.diff(offsets))
    coefficients = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([images, filters, rows, columns])),
        torch.from_numpy(values),
        (len(s), len(dictionary.filters), *s.shape[2:]),
        is_coalesced=True,  # the core sorts them
        check_invariants=False,
    )
    gap = torch.full((len(s),), torch.nan, dtype=torch.float64)
    synthesised, ended, took = (torch.from_numpy(part) for part in (synthesis, status, iterations))
    return Codes(coefficients, synthesised, ended, took, gap)


def off_the_span(
    v: Tensor, support: Tensor, dictionary: Dictionary, steps: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    """The part of images v, (B, C, H, W) float32, that is orthogonal to the atoms of `support`, as `Codes.support`.

    Returns:
        That part, and the relative residual ||A^T (v - P v)|| / ||A^T v|| of every image, (B,).
    """
    ones = torch.ones(support.shape[1])
    orthogonal, residual = native.core.off_the_span(
        _core(dictionary, native.instruction_sets()[0]),
        v.detach().contiguous().numpy(),
        _columns(support, ones, len(v)),
        steps=steps,
        tolerance=tolerance,
        threads=torch.get_num_threads(),
    )
    return torch.from_numpy(orthogonal), torch.from_numpy(residual)


def correlations(coefficients: Tensor, highpass: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Correlations of sparse codes (B, K, H, W) with each other and with images (B, C, H, W), summed over the images.

    Returns:
        sum_p z_k(p) z_l(p + lag), (K, K, 2 S - 1, 2 S - 1) with the lag (0, 0) in the middle, and
        sum_p z_k(p) s_c(p + a), (K, C, S, S).
    """
    gram, cross = native.core.code_statistics(
        _atoms(coefficients), highpass.detach().contiguous().numpy(), filters=coefficients.shape[1], side=side
    )
    return torch.from_numpy(gram), torch.from_numpy(cross)


def _certified(
    s: Tensor,
    dictionary: Dictionary,
    lmbda: float,
    accuracy: Accuracy,
    gap: float,
    start: Tensor | None,
    instruction_set: str,
) -> Codes:
    """Tighten the tolerances until float64 certifies the image; ADMM finishes those that single precision cannot."""
    descent, pending = accuracy.descent, torch.arange(len(s))
    pieces, order = [], []
    spent = torch.zeros(len(s), dtype=torch.int64)
    while len(pending):
        codes = descend(s[pending], dictionary, lmbda, descent, start, instruction_set)
        codes = certify(codes, s[pending], dictionary, lmbda, gap)
        spent[pending] += codes.iterations
        # Every image stops on its own, whatever its batch mates need.
        done = (codes.gap <= gap) | (descent.violation <= TIGHTEST)
        pieces.append(codes.select(done.nonzero()[:, 0]))
        order.append(pending[done])
        rest = (~done).nonzero()[:, 0]
        descent, pending, start = descent.tightened(TIGHTENING), pending[rest], codes.select(rest).coefficients
    codes = Codes.cat(pieces).select(torch.cat(order).argsort())
    return finish(replace(codes, iterations=spent), s, dictionary, lmbda, accuracy)


def _columns(support: Tensor, values: Tensor, images: int) -> "native.core.Columns":
    """Coefficients of a batch as the core takes them: offsets (B + 1,), and filters, rows, columns, values (nnz,)."""
    offsets = torch.searchsorted(support[0].contiguous(), torch.arange(images + 1))
    filters, rows, columns = (part.numpy() for part in support[1:].int().contiguous())
    return offsets.numpy(), filters, rows, columns, values.contiguous().numpy()


def _atoms(coefficients: Tensor) -> "native.core.Columns":
    sparse = coefficients if coefficients.is_sparse else coefficients.to_sparse()
    return _columns(sparse.indices(), sparse.values(), len(sparse))


def _core(dictionary: Dictionary, instruction_set: str) -> "native.core.Dictionary":
    dictionary.require_unchanged()
    return _packed(dictionary, instruction_set)


@lru_cache(maxsize=64)
def _packed(dictionary: Dictionary, instruction_set: str) -> "native.core.Dictionary":
    return native.core.Dictionary(dictionary.filters.detach().cpu().contiguous().numpy(), instruction_set)

"""The native core, native/module.cpp; absent where the package was installed without a compiler.

Arrays are C-contiguous NumPy arrays of exactly the types given here.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Columns: TypeAlias = tuple[
    NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]
]
"""Coefficients of B images: offsets (B + 1,), those of image b lying at offsets[b] : offsets[b + 1] of filter, row,
column and value."""

def instruction_sets() -> list[str]:
    """Those which this processor runs, the best first."""

class Dictionary:
    """Filters (K, C, S, S), packed for one instruction set; "" is the best."""

    def __init__(self, filters: NDArray[np.float32], instruction_set: str = "") -> None: ...
    @property
    def instruction_set(self) -> str: ...

def solve(
    dictionary: Dictionary,
    highpass: NDArray[np.float32],
    *,
    lmbda: float,
    violation: float,
    change: float,
    max_iterations: int,
    start: Columns | None = None,
    threads: int = 1,
) -> tuple[
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.int64],
    NDArray[np.int64],
]:
    """Codes of images (B, C, H, W), the coefficients of image b at offsets[b] : offsets[b + 1] of their columns.

    Returns:
        offsets (B + 1,), filter, row, column and value (nnz,), synthesis (B, C, H, W), status (B,), iterations (B,);
        `start` is the first five of them.
    """

def off_the_span(
    dictionary: Dictionary,
    images: NDArray[np.float32],
    atoms: Columns,
    *,
    steps: int,
    tolerance: float = 0.0,
    threads: int = 1,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The part of images (B, C, H, W) that is orthogonal to atoms, as `start` above, whatever their values.

    Returns:
        That part, and the relative residual of conjugate gradients, (B,).
    """

def code_statistics(
    atoms: Columns, highpass: NDArray[np.float32], *, filters: int, side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the update of filters needs of the codes of images (B, C, H, W), summed over the images.

    Returns:
        sum_p z_k(p) z_l(p + lag), (K, K, 2 S - 1, 2 S - 1) with the lag (0, 0) in the middle, and
        sum_p z_k(p) s_c(p + a), (K, C, S, S).
    """

def split_bregman(
    images: NDArray[np.float32],
    kept: NDArray[np.bool_],
    *,
    lmbda: float,
    isotropic: bool,
    sweeps: int,
    tolerance: float,
    max_iterations: int,
    scale: NDArray[np.float32],
    share: NDArray[np.float32],
    threads: int = 1,
    instruction_set: str = "",
) -> NDArray[np.float32]:
    """Images (B, C, H, W) with less total variation, from the pixels that are kept, (B, C, H, W).

    `scale` and `share` are `stl_ray.defenses.split_bregman.SplitBregman.weights` of missing and of kept pixels with 0 to 4
    neighbours, (2, 5). The same bits come out for every instruction set.
    """

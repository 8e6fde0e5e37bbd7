"""The update of filters for fixed codes, with Q of `statistics` and the set C of `constraint`.

    everyone's filters    argmin over d in C of Q(d)
    a block's filters     argmin over d of Q_n(d) + 1/2 sum_k rho_k ||d_k - t_k||^2

Some filters are used a hundred times as often as others, and Q is as much more curved along them. Both problems are
preconditioned by `usage`, which leaves the projection onto C the same, for C constrains every filter by itself.
"""

from torch import Tensor

from stl_ray.csc.learning.constraint import ConstraintSet
from stl_ray.csc.learning.statistics import CodeStatistics
from stl_ray.csc.learning.sums import total
from stl_ray.errors import TensorError

STEPS = 10
"""Gradient steps of one update."""

POWER_STEPS = 10
"""Power iterations that estimate the preconditioned curvature of Q."""

CURVATURE_MARGIN = 1.05
"""Factor for the curvature that the power iteration may have missed."""

SMALLEST_USAGE = 1e-3
"""Least usage that is assumed of a filter, relative to the mean."""

RESIDUAL = 1e-3
"""Relative residual at which conjugate gradients stop."""

CONJUGATE_STEPS = 30
"""Conjugate gradient steps at most."""


def weights_of(usage: Tensor) -> Tensor:
    """`usage` (K,) kept away from zero, as (K, 1, 1, 1).

    Raises:
        TensorError: no filter is used.
    """
    if not float(usage.sum()) > 0:
        raise TensorError(
            "no coefficient of the training images survives lambda",
            expected="images with more contrast, or a smaller lambda",
        )
    return usage.clamp(min=SMALLEST_USAGE * float(usage.mean()))[:, None, None, None]


def update_filters(filters: Tensor, statistics: CodeStatistics, constraint: ConstraintSet) -> Tensor:
    """Accelerated projected gradient on Q from `filters` (K, C, S, S) in C (FISTA, Beck and Teboulle 2009)."""
    weights = weights_of(statistics.usage)
    step = 1 / (CURVATURE_MARGIN * _curvature(filters, statistics, constraint, weights) * weights)
    current = ahead = filters
    momentum = 1.0
    for _ in range(STEPS):
        following = constraint.project(ahead - step * (statistics.curved(ahead) - statistics.cross))
        next_momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = following + (momentum - 1) / next_momentum * (following - current)
        current, momentum = following, next_momentum
    return current


def _curvature(filters: Tensor, statistics: CodeStatistics, constraint: ConstraintSet, weights: Tensor) -> float:
    """The largest eigenvalue of Q's Hessian in units of the weights, by power iteration."""
    root = weights.sqrt()
    direction, eigenvalue = root * filters, 1.0
    for _ in range(POWER_STEPS):
        direction = constraint.centre(statistics.curved(direction / _norm(direction) / root)) / root
        eigenvalue = float(_norm(direction))
    return eigenvalue


def local_filters(statistics: CodeStatistics, start: Tensor, target: Tensor, penalty: Tensor) -> Tensor:
    """A block's filters (K, C, S, S), by preconditioned conjugate gradients.

    Args:
        statistics: of the block.
        start: (K, C, S, S) where to begin.
        target: (K, C, S, S), t above.
        penalty: (K, 1, 1, 1), rho above, positive.
    """
    right = statistics.cross + penalty * target
    scale = 1 / (statistics.usage[:, None, None, None] + penalty)
    current = start
    residual = right - statistics.curved(current) - penalty * current
    direction = scaled = scale * residual
    product = total(residual * scaled)
    enough = RESIDUAL * _norm(right)
    for _ in range(CONJUGATE_STEPS):
        if _norm(residual) <= enough:
            break
        image = statistics.curved(direction) + penalty * direction
        step = product / total(direction * image)
        current, residual = current + step * direction, residual - step * image
        scaled = scale * residual
        following = total(residual * scaled)
        direction, product = scaled + following / product * direction, following
    return current


def _norm(filters: Tensor) -> Tensor:
    return total(filters.square()).sqrt()

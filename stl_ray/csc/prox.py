"""The proximal operator of the l1 norm and its complement.

Convention: the threshold is the whole factor, so prox of (lambda / rho) ||.||_1 is `soft_threshold(v, lambda / rho)`.
By Moreau's identity v = soft_threshold(v, t) + clip(v, t).
"""

from torch import Tensor


def clip(v: Tensor, threshold: float) -> Tensor:
    """Projection onto the box [-threshold, threshold], the ball of the dual norm."""
    return v.clamp(-threshold, threshold)


def soft_threshold(v: Tensor, threshold: float) -> Tensor:
    """argmin_x 1/2 ||x - v||^2 + threshold ||x||_1; exact zeros inside the box."""
    return v - clip(v, threshold)

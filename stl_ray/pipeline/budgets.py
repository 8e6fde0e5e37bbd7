"""Budgets as a configuration gives them."""

from stl_ray.attacks import Budget
from stl_ray.config import Budgeted


def budget_of(config: Budgeted) -> Budget:
    """The budget, in [0, 1] pixels."""
    if config.linf is not None:
        return Budget(kind="linf", size=config.linf / 255)
    if config.l2 is not None:
        return Budget(kind="l2", size=config.l2, space=config.space)
    return Budget(size=float(config.dissimilarity or 0), space=config.space)

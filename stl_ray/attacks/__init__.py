"""ATTACKS: adversarial images against a classifier, held to the budget of every image and measured as stored.

base      the frame that no method can step out of: checks, budget, storage, measurement
formulations  fixed budget (a single run, or restarts) and minimum norm: what a method file supplies
budget    how far an image may go, in which norm and space
budget_projection  a perturbation becomes the stored image at, or within, its budget
geometry  balls and steps; losses: what is climbed; randomness: a stream per image; early_stopping: per image
registry  the methods by name, one file each

An attack sees a classifier only through `stl_ray.models.Victim`.
"""

from stl_ray.attacks.base import Attack, AttackResult, AttackStatus
from stl_ray.attacks.budget import Budget, Store
from stl_ray.attacks.formulations import FixedBudget, MinimumNorm
from stl_ray.attacks.registry import ATTACKS, make_attack
from stl_ray.attacks.universal import Universal, fooling_rate

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackResult",
    "AttackStatus",
    "Budget",
    "FixedBudget",
    "MinimumNorm",
    "Store",
    "Universal",
    "fooling_rate",
    "make_attack",
]

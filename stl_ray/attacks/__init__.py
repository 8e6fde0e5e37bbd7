"""ATTACKS: adversarial images against a classifier, within the budget of every image and measured as stored.

base               the interface of every attack: checks, method, measurement
problem, result    the images to attack; the adversarial images with their measurements
answers            what the victim answered for each image: gradients that are zero or not finite
formulations       fixed budget (single run or restarts) and minimum norm: what a method implements
budget             norm, size and space of the largest allowed perturbation
budget_projection  perturbation -> stored image at, or within, the budget
stored_search      what a search found -> the nearest stored image that is still misclassified
geometry, losses   balls and steps; what is maximised
randomness         a random stream per image
early_stopping     per-image stopping over full tiles
speculation        later trials in spare slots of a tile
linear_boundaries  nearest linearised class boundary, for DeepFool and FAB
boundary_search    bisection toward the clean image
registry           the methods by name, one file each

An attack accesses a classifier only through `stl_ray.models.Victim`.
"""

from stl_ray.attacks.base import Attack
from stl_ray.attacks.budget import Budget, Store, at_mean, budget_of
from stl_ray.attacks.formulations import FixedBudget, MinimumNorm
from stl_ray.attacks.registry import ATTACKS, make_attack
from stl_ray.attacks.result import AttackResult, AttackStatus
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
    "at_mean",
    "budget_of",
    "fooling_rate",
    "make_attack",
]

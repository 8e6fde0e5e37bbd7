"""DEFENSES: transformations of images in front of a classifier.

base        what a defense takes and returns; `deployed` is the pipeline that tables speak of
compose     `Defended`: a classifier behind a defense, as attacks see it
registry    the methods by name, one file each (undefended, jpeg, stl)

A defense itself knows nothing of classifiers and attacks.
"""

from stl_ray.defenses.base import APPLIED, Defense, Linearised, Pullback, Purified, deployed
from stl_ray.defenses.compose import Backward, Defended, surrogate
from stl_ray.defenses.registry import DEFENSES, check_defense, make_defense, needs_space
from stl_ray.defenses.stl import SparseTransformation

__all__ = [
    "APPLIED",
    "DEFENSES",
    "Backward",
    "Defended",
    "Defense",
    "Linearised",
    "Pullback",
    "Purified",
    "SparseTransformation",
    "check_defense",
    "deployed",
    "make_defense",
    "needs_space",
    "surrogate",
]

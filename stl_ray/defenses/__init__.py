"""DEFENSES: transformations of images in front of a classifier.

base        what a defense takes and returns; `deployed` is the pipeline that tables speak of
registry    the methods by name, one file each (undefended, jpeg, stl)

A defense knows nothing of classifiers and attacks.
"""

from stl_ray.defenses.base import APPLIED, Defense, Purified, deployed
from stl_ray.defenses.registry import DEFENSES, check_defense, make_defense, needs_space

__all__ = ["APPLIED", "DEFENSES", "Defense", "Purified", "check_defense", "deployed", "make_defense", "needs_space"]

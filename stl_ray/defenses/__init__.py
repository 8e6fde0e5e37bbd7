"""DEFENSES: transformations of images in front of a classifier.

base        what a defense takes and returns; verdicts of a defended model; `deployed` is the pipeline that tables speak of
compose     `Defended`: a classifier behind a defense, as attacks see it and as it is judged
registry    the methods by name, one file each (undefended, jpeg, tvm, stl), made of options and of resources by name

A defense itself knows nothing of classifiers and attacks.
"""

from stl_ray.defenses.base import (
    APPLIED,
    DIVERGED,
    NO_VERDICT,
    Decisions,
    DefendedModel,
    Defense,
    Differentiable,
    Linearised,
    Pullback,
    Purified,
    Resources,
    deployed,
    deployed_seeds,
    identity_in_run,
)
from stl_ray.defenses.compose import Defended
from stl_ray.defenses.registry import DEFENSES, check_clusters, check_defense, make_defense, required_by
from stl_ray.defenses.stl import SparseTransformation

__all__ = [
    "APPLIED",
    "DEFENSES",
    "DIVERGED",
    "NO_VERDICT",
    "Decisions",
    "Defended",
    "DefendedModel",
    "Defense",
    "Differentiable",
    "Linearised",
    "Pullback",
    "Purified",
    "Resources",
    "SparseTransformation",
    "check_clusters",
    "check_defense",
    "deployed",
    "deployed_seeds",
    "identity_in_run",
    "make_defense",
    "required_by",
]

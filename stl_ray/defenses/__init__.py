"""DEFENSES: what stands between an image and a verdict.

base         the kinds of defenses, and what each declares: transformations, ensembles of views, wrapped networks
purified     what a transformation makes of images, with the record of each solve
fitted       artifacts that a defense is fitted with, by recipes
options      the options of a defense, and the resources that it cannot be made without
decisions    verdicts of a defended model
detector     a defense that also refuses images, its detector, and how that is calibrated
compose      `Defended`: a classifier behind a defense, as attacks see it and as it is judged
views        the views of some images: their logits together, and the derivative
joint        a classifier and its detector as one victim
by_autograd  transformations that torch differentiates
own          a user's own, `module:function`; own_options: its options, from the signature
look         a look at defenses before any work
registry     the defenses by name, one file each; `stl_ray.defenses.registry` has the list
activations  the activations of a network, layer by layer
local_intrinsic_dimension    LID's estimate, from these
lid_calibration              what LID's detector learns from

A defense itself knows nothing of attacks; `deployed` is the pipeline that tables speak of.
"""

from stl_ray.defenses.base import (
    Defense,
    Differentiable,
    Linearised,
    Pullback,
    Transformation,
    deployed,
    deployed_seeds,
    identity_in_run,
)
from stl_ray.defenses.compose import Defended
from stl_ray.defenses.decisions import Decisions, DefendedModel
from stl_ray.defenses.detector import Calibration, Detecting, Detector
from stl_ray.defenses.ensemble import Ensemble
from stl_ray.defenses.fitted import ArtifactRecipe, FittedOptions
from stl_ray.defenses.options import DefenseOptions, Resources
from stl_ray.defenses.purified import APPLIED, DIVERGED, Purified, record_of
from stl_ray.defenses.registry import DEFENSES, check_clusters, is_transformation, make_defense, options_of, row_of
from stl_ray.defenses.robust_classifier import RobustClassifier
from stl_ray.defenses.stl import SparseTransformation

__all__ = [
    "APPLIED",
    "DEFENSES",
    "DIVERGED",
    "ArtifactRecipe",
    "Calibration",
    "Decisions",
    "Defended",
    "DefendedModel",
    "Defense",
    "DefenseOptions",
    "Detecting",
    "Detector",
    "Differentiable",
    "Ensemble",
    "FittedOptions",
    "Linearised",
    "Pullback",
    "Purified",
    "Resources",
    "RobustClassifier",
    "SparseTransformation",
    "Transformation",
    "check_clusters",
    "deployed",
    "deployed_seeds",
    "identity_in_run",
    "is_transformation",
    "make_defense",
    "options_of",
    "record_of",
    "row_of",
]

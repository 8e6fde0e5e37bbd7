"""CONFIG: one frozen model per job (sections, classifiers, spaces, attacks, training, cluster with labels), and the loader that turns YAML and key=value into an Experiment.

keys has the types of keys, values reads by them, grid expands entries with lists of values, help explains them.
"""

from stl_ray.config.attacks import (
    AttackConfig,
    AttackedConfig,
    Budgeted,
    Gradient,
    NamedAttack,
    TierAttack,
    TiersConfig,
)
from stl_ray.config.base import OptionValue
from stl_ray.config.classifiers import ClassifierConfig
from stl_ray.config.cluster import RayConfig
from stl_ray.config.loader import bundled, load_experiment, parsed, read_experiment
from stl_ray.config.sections import (
    EvaluateConfig,
    Experiment,
    IngestConfig,
    NamedDefense,
    ProjectConfig,
    ReportConfig,
    SolverConfig,
    Source,
    Split,
    classifier_of,
    space_of,
)
from stl_ray.config.spaces import AutoencoderConfig, DictionaryConfig, FitConfig, SpaceConfig
from stl_ray.config.training import SCRATCH, AdversarialConfig, Recipe, Retraining, TrainConfig

__all__ = [
    "SCRATCH",
    "AdversarialConfig",
    "AttackConfig",
    "AttackedConfig",
    "AutoencoderConfig",
    "Budgeted",
    "ClassifierConfig",
    "DictionaryConfig",
    "EvaluateConfig",
    "Experiment",
    "FitConfig",
    "Gradient",
    "IngestConfig",
    "NamedAttack",
    "NamedDefense",
    "OptionValue",
    "ProjectConfig",
    "RayConfig",
    "Recipe",
    "ReportConfig",
    "Retraining",
    "SolverConfig",
    "Source",
    "SpaceConfig",
    "Split",
    "TierAttack",
    "TiersConfig",
    "TrainConfig",
    "bundled",
    "classifier_of",
    "load_experiment",
    "parsed",
    "read_experiment",
    "space_of",
]

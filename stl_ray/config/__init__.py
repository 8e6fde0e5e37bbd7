"""CONFIG: one frozen model per job (sections, classifiers, attacks, training, cluster with labels), and the loader that turns YAML and key=value into an Experiment.

keys has the types of keys, values reads by them, grid expands entries with lists of values, help explains them.
"""

from stl_ray.config.attacks import (
    AttackConfig,
    AttackedConfig,
    Budgeted,
    NamedAttack,
    TierAttack,
    TiersConfig,
)
from stl_ray.config.base import OptionValue
from stl_ray.config.classifiers import ClassifierConfig
from stl_ray.config.cluster import RayConfig
from stl_ray.config.loader import bundled, load_experiment, parsed
from stl_ray.config.sections import (
    AutoencoderConfig,
    DictionaryConfig,
    EvaluateConfig,
    Experiment,
    FitConfig,
    IngestConfig,
    NamedDefense,
    ProjectConfig,
    ReportConfig,
    Source,
    Split,
    StlConfig,
)
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
    "IngestConfig",
    "NamedAttack",
    "NamedDefense",
    "OptionValue",
    "ProjectConfig",
    "RayConfig",
    "Recipe",
    "ReportConfig",
    "Retraining",
    "Source",
    "Split",
    "StlConfig",
    "TierAttack",
    "TiersConfig",
    "TrainConfig",
    "bundled",
    "load_experiment",
    "parsed",
]

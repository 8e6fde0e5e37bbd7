"""CONFIG: one frozen model per job (sections, attacks, training, cluster with labels), and the loader that turns YAML and key=value into an Experiment.

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
from stl_ray.config.cluster import RayConfig
from stl_ray.config.loader import bundled, load_experiment
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
    StlConfig,
)
from stl_ray.config.training import AdversarialConfig, TrainConfig

__all__ = [
    "AdversarialConfig",
    "AttackConfig",
    "AttackedConfig",
    "AutoencoderConfig",
    "Budgeted",
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
    "ReportConfig",
    "Source",
    "StlConfig",
    "TierAttack",
    "TiersConfig",
    "TrainConfig",
    "bundled",
    "load_experiment",
]

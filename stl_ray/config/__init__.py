"""CONFIG: one frozen model per job (sections, spaces, attacks, training), and the loader that turns YAML and key=value into an Experiment.

keys has the types of keys, values reads by them, help explains them.
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
from stl_ray.config.loader import bundled, load_experiment
from stl_ray.config.sections import (
    EvaluateConfig,
    Experiment,
    IngestConfig,
    NamedDefense,
    ProjectConfig,
    RayConfig,
    ReportConfig,
    SolverConfig,
    Source,
    space_of,
)
from stl_ray.config.spaces import AutoencoderConfig, DictionaryConfig, FitConfig, SpaceConfig
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
    "SolverConfig",
    "Source",
    "SpaceConfig",
    "TierAttack",
    "TiersConfig",
    "TrainConfig",
    "bundled",
    "load_experiment",
    "space_of",
]

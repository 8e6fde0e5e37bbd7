"""CONFIG: one frozen model per job (sections, training), and the loader that turns YAML and key=value into an Experiment."""

from stl_ray.config.loader import bundled, load_experiment
from stl_ray.config.sections import (
    AttackConfig,
    AutoencoderConfig,
    DictionaryConfig,
    EvaluateConfig,
    Experiment,
    FitConfig,
    IngestConfig,
    NamedAttack,
    NamedDefense,
    OptionValue,
    ProjectConfig,
    RayConfig,
    ReportConfig,
    Source,
    StlConfig,
)
from stl_ray.config.training import AdversarialConfig, TrainConfig

__all__ = [
    "AdversarialConfig",
    "AttackConfig",
    "AutoencoderConfig",
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
    "TrainConfig",
    "bundled",
    "load_experiment",
]

"""CONFIG: one frozen model per job (sections), and the loader that turns YAML and key=value into an Experiment."""

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
    TrainConfig,
)

__all__ = [
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

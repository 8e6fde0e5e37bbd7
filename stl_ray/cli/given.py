"""The experiment that a command is given, and the folder in which it is given, where the user's own modules may lie."""

import sys
from collections.abc import Sequence
from pathlib import Path

from stl_ray.config import Experiment, load_experiment


def given_experiment(config: str, overrides: Sequence[str]) -> Experiment:
    """The experiment of a YAML file and `key=value`, its modules found here (`with_modules_here`).

    Raises:
        ConfigError, InputError: as for `load_experiment`.
    """
    return with_modules_here(load_experiment(config, overrides))


def with_modules_here(experiment: Experiment) -> Experiment:
    """The same experiment; if it has classifiers `module:function`, their modules are found in this folder from now on."""
    here = str(Path.cwd())
    # In front, as Ray has it in the workers of this process.
    if experiment.functions and here not in sys.path:
        sys.path.insert(0, here)
    return experiment

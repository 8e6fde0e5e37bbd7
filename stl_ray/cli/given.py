"""The experiment that a command is given, and the folder in which it is given, where the user's own modules may lie."""

import sys
from collections.abc import Sequence
from pathlib import Path

from stl_ray.config import Experiment, load_experiment


def given_experiment(config: str, overrides: Sequence[str]) -> Experiment:
    """The experiment of a YAML file and `key=value`; if it has classifiers `module:function`, their modules are found here.

    Raises:
        ConfigError, InputError: as for `load_experiment`.
    """
    experiment = load_experiment(config, overrides)
    here = str(Path.cwd())
    # In front, as Ray has it in the workers of this process.
    if experiment.functions and here not in sys.path:
        sys.path.insert(0, here)
    return experiment

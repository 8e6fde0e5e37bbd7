"""The experiment that a command is given, the user's own classifiers and defenses that its jobs load, and the folder in which it
is given, where their modules may lie.
"""

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
    """The same experiment; modules of its `module:function`, a substitute's too, are found in this folder from now on."""
    if experiment.functions or experiment.evaluate.tiers.substitute:
        find_modules_here()
    return experiment


def find_modules_here() -> None:
    """Have Python look for modules in this folder first, as Ray has it in the workers of this process."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def functions_of(experiment: Experiment, *jobs: str) -> tuple[str, ...]:
    """The users' own, `module:function`, that jobs load: `evaluate` those of a substitute experiment too.

    Raises:
        IncompleteRunError: there is no record of the substitute.
        ArtifactError: it is of another version.
        StorageError: it cannot be reached.
    """
    substitute = experiment.evaluate.tiers.substitute
    if substitute is None or "evaluate" not in jobs:
        return experiment.functions
    from stl_ray.pipeline.inputs import recorded

    return tuple(dict.fromkeys((*experiment.functions, *recorded(substitute).functions)))

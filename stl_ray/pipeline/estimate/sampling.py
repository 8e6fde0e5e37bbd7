"""Samples of a job's work, made by Ray tasks that have what a worker of the job would have."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from stl_ray.config import RayConfig
from stl_ray.errors import IncompleteRunError
from stl_ray.runtime.node_labels import placement

Sample = TypeVar("Sample")


def sample_all(
    function: Callable[..., Sample],
    arguments: Sequence[tuple[Any, ...]],
    *,
    resources: RayConfig,
    cpus: int,
    gpus: float,
    item: str,
) -> list[Sample]:
    """The values of a function, each from a Ray task that is tried once.

    Args:
        function: picklable.
        arguments: of each call.
        resources: the nodes that tasks keep to.
        cpus: of a task.
        gpus: of a task.
        item: the step or folder that is estimated, named in the error.

    Raises:
        IncompleteRunError: with the last line of what a task raised.
    """
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, **placement(resources))(function)
    try:
        samples: list[Sample] = ray.get([task.remote(*values) for values in arguments])
    except RayError as error:
        last = str(error).strip().splitlines()[-1]
        raise IncompleteRunError(f"the sample cannot be made ({last})", item=item) from error
    return samples


def sample(
    function: Callable[..., Sample], *arguments: Any, resources: RayConfig, cpus: int, gpus: float, item: str
) -> Sample:
    """The value of a function from one Ray task; see `sample_all`."""
    return sample_all(function, [arguments], resources=resources, cpus=cpus, gpus=gpus, item=item)[0]

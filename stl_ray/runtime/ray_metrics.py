"""The figures of a job as Ray metrics, which Prometheus scrapes from the nodes (stl_ray_... with the tag `job`)."""

from typing import Any

import ray
from ray.util.metrics import Gauge

_GAUGES = {
    "done": "Units that are done, of the dataset or the training.",
    "total": "Units in all.",
    "rate_now": "Units per second over the last half minute.",
    "in_flight": "Shards in the hands of workers.",
    "busy": "Share of the time in which workers with shards in hand compute.",
    "quarantined": "Images set aside, by reason.",
}


class RayMetrics:
    """The gauges of one job; silent without Ray.

    Args:
        label: of the job's step, the tag `job`.
    """

    def __init__(self, label: str) -> None:
        self._tags = {"job": label}
        self._gauges: dict[str, Gauge] = {}
        if ray.is_initialized():
            self._gauges = {
                name: Gauge(
                    f"stl_ray_{name}", description=text, tag_keys=("job", *(["reason"] * (name == "quarantined")))
                )
                for name, text in _GAUGES.items()
            }

    def show(self, figures: dict[str, Any]) -> None:
        """Set the gauges to a `JobProgress.snapshot`."""
        for name, gauge in self._gauges.items():
            value = figures[name]
            if name == "quarantined":
                for reason, number in value.items():
                    gauge.set(number, {**self._tags, "reason": reason})
            elif value is not None:
                gauge.set(value, self._tags)

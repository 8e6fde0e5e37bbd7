"""The keys of `ray`: the cluster, its nodes, and the size of actors."""

from collections.abc import Mapping

from pydantic import Field, model_validator

from stl_ray.config.base import Section
from stl_ray.config.labels import LabelSelector


class Fallback(Section):
    """Nodes for what finds no room on those before."""

    label_selector: LabelSelector = Field(min_length=1, description="as ray.label_selector")


class RayConfig(Section):
    """The Ray cluster and the size of its actors."""

    address: str | None = Field(
        None, description="Ray cluster to join; absent: RAY_ADDRESS, else a local one is started"
    )
    actors: int | None = Field(
        None, ge=1, description="most actors at work at once; absent: as many as the CPUs or GPUs carry"
    )
    min_actors: int | None = Field(
        None, ge=1, description="fewest actors; more are started while shards wait; absent: as many as ray.actors"
    )
    autoscaling: bool = Field(
        False, description="whether the cluster adds nodes on demand: workers that do not fit at present then wait instead of "
        "being refused; needs ray.actors"
    )  # fmt: skip
    cpus_per_actor: int = Field(1, ge=1, description="CPUs, and threads, of an actor")
    gpus_per_actor: float = Field(
        0.0, ge=0, le=1, description="GPU of an actor that computes (not of ingest); below 1, actors share one"
    )

    label_selector: LabelSelector = Field(
        {}, description="labels of the nodes that may be worked on (ray start --labels), by name, each with a value, !value, "
        "in(a,b) or !in(a,b), such as {cpu: avx512}; empty: any node"
    )  # fmt: skip
    fallback_strategy: tuple[Fallback, ...] = Field(
        (), description="further labels, in their order, for actors and tasks that find no room on such nodes; trainings and "
        "dictionaries have none"
    )  # fmt: skip

    @property
    def selectors(self) -> tuple[Mapping[str, str], ...]:
        """What a node may match to be worked on; the first alone holds for what has no fallback."""
        return (self.label_selector, *(other.label_selector for other in self.fallback_strategy))

    @model_validator(mode="after")
    def _fallback_is_of_a_selector(self) -> "RayConfig":
        if self.fallback_strategy and not self.label_selector:
            raise ValueError("fallback_strategy needs label_selector: without one every node will do")
        return self

    @model_validator(mode="after")
    def _pool_is_possible(self) -> "RayConfig":
        if self.autoscaling and self.actors is None:
            raise ValueError("autoscaling needs actors: what the cluster may grow to is not known here")
        if self.min_actors and self.actors and self.min_actors > self.actors:
            raise ValueError("min_actors must not be above actors")
        return self

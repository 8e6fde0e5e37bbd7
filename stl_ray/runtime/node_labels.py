"""The nodes that the configuration allows, by their labels: which there are, and how actors and tasks keep to them.

What serves the driver and takes no CPU (boards, the processes that drive trainings) stays on the driver's node, whatever
labels that has.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ray

from stl_ray.config import RayConfig
from stl_ray.config.labels import matches
from stl_ray.errors import ConfigError

_OF_ONE_NODE = "ray.io/node-id"  # the label that Ray gives every node


def placement(config: RayConfig) -> dict[str, Any]:
    """The options by which an actor or task of Ray, or of Ray Data, keeps to the nodes; none where any will do."""
    options: dict[str, Any] = {}
    if config.label_selector:
        options["label_selector"] = dict(config.label_selector)
    if config.fallback_strategy:
        options["fallback_strategy"] = [other.model_dump() for other in config.fallback_strategy]
    return options


def nodes_matching(selectors: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """The nodes that are alive and match one of the selectors, as `ray.nodes` describes them."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"] and any(matches(node["Labels"], one) for one in selectors)]


def require_matching_node(config: RayConfig) -> None:
    """Refuse labels that no node has, where the cluster does not grow.

    Raises:
        ConfigError: with the labels that nodes have.
    """
    if config.autoscaling or nodes_matching(config.selectors):
        return
    there = {
        f"{key}={value}"
        for node in nodes_matching([{}])
        for key, value in node["Labels"].items()
        if key != _OF_ONE_NODE
    }
    raise ConfigError(
        "no node of the cluster has such labels",
        item="ray.label_selector",
        expected=f"labels of its nodes: {', '.join(sorted(there)) or 'they have none (ray start --labels KEY=VALUE)'}",
        got=described(config.selectors),
    )


def described(selectors: Sequence[Mapping[str, str]]) -> str:
    """Selectors in words: `cpu=avx512, else cpu=avx2`."""
    return ", else ".join(" and ".join(f"{key}={value}" for key, value in one.items()) or "any" for one in selectors)

"""Replaced by the models room when it is merged."""

from collections.abc import Sequence
from typing import Any


def class_list(classes: object, names: Sequence[str]) -> list[str]:
    return list(names) if classes is None else list(classes)  # type: ignore[call-overload]


def class_indices(names: Sequence[str], own: Sequence[str], item: str) -> list[int]:
    return [list(own).index(name) for name in names]


def identity_of(config: Any, classifier: Any) -> Any:
    from stl_ray.pipeline.attack.target_digest import digest

    return {"architecture": config.architecture, "weights": digest(classifier.backbone), "class_names": list(classifier.class_names)}

"""What differs between the configurations of two experiments: dotted keys, entries of lists by their names."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stl_ray.config import Experiment
from stl_ray.report.names import unique

ABSENT, GIVEN = "absent", "given"

_OWN = {"name", "root"}
"""Keys in which no two experiments agree."""


@dataclass(frozen=True)
class Difference:
    """A key and its two values as JSON; `absent` of one that is not there, `given` of a section or entry that is."""

    key: str
    first: str
    second: str


def differences(first: Experiment, second: Experiment) -> tuple[Difference, ...]:
    """Every key whose values differ but for name and root, `classifiers.small_cnn.recipe.epochs`; a section or an entry of a list
    that only one has is one difference, whatever is in it.
    """
    one, other = (experiment.model_dump(mode="json", exclude=_OWN) for experiment in (first, second))
    return tuple(_between("", one, other))


def _between(key: str, first: Any, second: Any) -> Iterator[Difference]:
    first, second = _by_name(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        for name in unique([*first, *second]):
            yield from _between(f"{key}.{name}" if key else name, first.get(name), second.get(name))
    elif first != second or isinstance(first, bool) != isinstance(second, bool):
        yield Difference(key, _shown(first), _shown(second))


def _by_name(first: Any, second: Any) -> tuple[Any, Any]:
    """Two lists of named entries as mappings; anything else as it is."""
    if not (_is_named(first) and _is_named(second)):
        return first, second
    one, other = ({entry["name"]: entry for entry in entries} for entries in (first, second))
    return one, other


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) and "name" in entry for entry in value)


def _shown(value: Any) -> str:
    if value is None:
        return ABSENT
    return GIVEN if isinstance(value, dict) and value else json.dumps(value, ensure_ascii=False)

"""The keys and values of one grid: where they lie in the entry, and what they are called in the names of rows.

In a name a key is the shortest beginning of its last part that no other key of the grid has, behind a dash, and its value
follows: `-l0.1`. A number is as Python writes it, without the + of 1e+16; a character that a name cannot have is a dash.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from stl_ray.config.keys import GridOf, below, grid_path, holds_more, section_in
from stl_ray.errors import ConfigError
from stl_ray.options import nearest

_OTHER = re.compile(r"[^A-Za-z0-9._-]")


class Axis(NamedTuple):
    """A key of a grid: its path in the entry, its beginning in the names of rows, and its values."""

    path: tuple[str, ...]
    beginning: str
    values: list[Any]


def axes_of(grid: Any, entry: Mapping[str, Any], model: type[BaseModel], item: str) -> list[Axis]:
    """The axes of a grid, in the order written.

    Args:
        grid: plain values.
        entry: plain values of the entry, without the grid.
        model: of the entry.
        item: the grid's path.

    Raises:
        ConfigError: if the grid has an unknown key, a key that the entry has too, or anything but lists of single values.
    """
    if not isinstance(grid, dict) or not grid:
        raise ConfigError("not a grid", item=item, expected="keys with lists of their values", got=repr(grid))
    axes = []
    for key, beginning in zip(grid, _beginnings(list(grid)), strict=True):
        place = f"{item}.{key}"
        path = _path(model, key, place)
        node: Any = entry
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        if node is not None:
            raise ConfigError("a key of the entry and of its grid", item=place, expected="it in one of them")
        axes.append(Axis(path, beginning, _values(grid[key], place)))
    return axes


def in_a_name(value: bool | float | str) -> str:
    """A value as a part of a name."""
    if isinstance(value, bool):
        return str(value).lower()
    return _OTHER.sub("-", value if isinstance(value, str) else repr(value).replace("e+", "e"))


def _path(model: type[BaseModel], key: str, place: str) -> tuple[str, ...]:
    """The path of a grid's key in the entry.

    Raises:
        ConfigError: if there is no such key, it has more below it, or its option is written in the longer way.
    """
    path = grid_path(model, key)
    if path[0] == "options" and "." in key and grid_path(model, path[-1]) == path:
        raise ConfigError("the name of an option stands alone in a grid", item=place, expected=path[-1])
    annotation: object = model
    for part in path:
        section, annotation = section_in(annotation), below(annotation, part)
        if annotation is None or isinstance(annotation, GridOf):
            known = section.model_fields if section else ()
            raise ConfigError("unknown key", item=place, expected=nearest(part, known))
    if holds_more(annotation):
        section = section_in(annotation)
        choices = (
            nearest(key, (f"{key}.{name}" for name in section.model_fields)) if section else "a key with one value"
        )
        raise ConfigError("not a key of a single value", item=place, expected=choices)
    return path


def _values(values: Any, place: str) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise ConfigError("not a list of values", item=place, expected="a list of one or more", got=repr(values))
    for value in values:
        if not isinstance(value, bool | int | float | str):
            expected = "numbers, texts, true or false"
            raise ConfigError("not a single value", item=place, expected=expected, got=repr(value))
    return values


def _beginnings(keys: Sequence[str]) -> Iterator[str]:
    """For each key the shortest beginning of its last part that no other's has; all of it where there is none."""
    parts = [key.rpartition(".")[2] for key in keys]
    for index, part in enumerate(parts):
        others = [*parts[:index], *parts[index + 1 :]]
        beginnings = (part[:end] for end in range(1, len(part)))
        yield next((start for start in beginnings if not any(other.startswith(start) for other in others)), part)

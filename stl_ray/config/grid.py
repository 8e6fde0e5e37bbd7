"""Grids: an entry with `grid: {KEY: [VALUE, ...], ...}` stands for one entry of every combination, each with a name of its own.

The rows come in the order of the lists, the last key varying fastest. A row's name is the entry's with a suffix of keys and
values, `stl-l0.1-aexact` (`grid_axes`).

Who refers to an entry with a grid by its name means all of its rows: in a list they stand in its place, and an entry that
names it alone has a row for each, whose name ends in the suffix of the row that it names.

Rows are plain values, the same as if they had been written out, and nothing behind the loader knows of grids.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from pydantic import BaseModel

from stl_ray.config.grid_axes import Axis, axes_of, in_a_name
from stl_ray.config.keys import GRID, below_all, section_in
from stl_ray.errors import ConfigError

LISTS = ("spaces", "defenses", "attack.sets", "evaluate.tiers.attacks")
"""The lists whose entries may have a grid, those first that others refer to."""

DESCRIPTION = (
    "keys of this entry with lists of their values, one entry for every combination: {lmbda: [0.1, 0.2]} of the entry stl "
    "makes stl-l0.1 and stl-l0.2; a key below another has a dot, an option only its name (docs/grids.md)"
)

# For lists whose entries refer to others: the key that does, and the list that it names an entry of.
_REFERENCES = {
    "defenses": {"options.space": "spaces"},
    "attack.sets": {"victim.defense": "defenses", "victim.retrained_for": "defenses"},
    "classifiers": {"retrain.defenses": "defenses"},
}

_MOST = 10_000  # rows of one entry: more are a mistake, which would fill the memory


@dataclass(frozen=True)
class Expanded:
    """A configuration without grids.

    Attributes:
        values: as they were read, with rows in place of the entries that had grids.
        origins: for the entries of lists that were expanded, by their path among `values`, the path in the configuration as
            it is written, with the row's name: `defenses.1[stl-l0.1]`.
    """

    values: dict[str, Any]
    origins: dict[tuple[int | str, ...], str]


class _Row(NamedTuple):
    """An entry of a grid, and what its name has behind the name of the entry that it is from."""

    suffix: str
    values: dict[str, Any]


class _Choice(NamedTuple):
    """A value of an axis: what it adds to the name, and the values that it sets by their paths in the entry."""

    suffix: str
    values: dict[tuple[str, ...], Any]


_Rows = Mapping[str, Sequence[_Row]]
"""The rows of the entries of a list that have several, by the entry's name."""

_Named = Sequence[tuple[tuple[str, ...], _Rows]]
"""Paths of keys that name entries of another list, each with that list's rows."""


def expand(values: Mapping[str, Any], model: type[BaseModel]) -> Expanded:
    """A configuration with every grid expanded.

    Args:
        values: plain values, as they were read; left as they are. What is no list, no entry or no name is left to the model.
        model: of the configuration; its lists say which keys an entry has.

    Raises:
        ConfigError: if a grid has an unknown key, an empty list, a key that the entry has too, or more than single values;
            or if two entries would have one name.
    """
    expanded = deepcopy(dict(values))
    origins: dict[tuple[int | str, ...], str] = {}
    several: dict[str, _Rows] = {}
    for path in (*LISTS, *(path for path in _REFERENCES if path not in LISTS)):
        *parents, last = path.split(".")
        section = _at(expanded, parents)
        if not isinstance(section, dict) or not isinstance(section.get(last), list):
            continue
        entries = section[last]
        entry_model = section_in(below_all(model, path.split("."))) if path in LISTS else None
        named = [(tuple(key.split(".")), several.get(target, {})) for key, target in _REFERENCES.get(path, {}).items()]
        rows = [_rows_of(entry, entry_model, named, f"{path}.{index}") for index, entry in enumerate(entries)]
        of_grids = [index for index, made in enumerate(rows) if made[0].suffix]
        several[path] = {entries[index]["name"]: rows[index] for index in of_grids}
        section[last] = [row.values for made in rows for row in made]
        if of_grids:
            names = [entry["name"] for entry in section[last] if _is_named(entry)]
            _require_distinct([*names, *(entries[index]["name"] for index in of_grids)], path)
            places = (f"{path}.{index}{_bracketed(row)}" for index, made in enumerate(rows) for row in made)
            origins |= {(*parents, last, place): origin for place, origin in enumerate(places)}
    return Expanded(expanded, origins)


def _bracketed(row: _Row) -> str:
    return f"[{row.values['name']}]" if row.suffix else ""


def _rows_of(entry: Any, model: type[BaseModel] | None, named: _Named, item: str) -> list[_Row]:
    """The rows of an entry; itself, without a suffix, where it has no grid, names no entry that has one, or is no entry.

    Args:
        entry: plain values.
        model: of the entry; None where it may have no grid.
        named: the keys that refer to entries of another list.
        item: the entry's path.
    """
    if not isinstance(entry, dict):
        return [_Row("", entry)]
    given = {key: value for key, value in entry.items() if key != GRID or model is None}
    if not _is_named(entry):
        return [_Row("", given)]
    axes = list(_reference_axes(given, named))
    if model is not None and entry.get(GRID) is not None:
        axes += [_choices(axis, dict(named)) for axis in axes_of(entry[GRID], given, model, f"{item}.{GRID}")]
    for path, several in named:
        if isinstance(listed := _at(given, path), list):
            listed[:] = [name for value in listed for name in _names(value, several)]
    if (count := math.prod(map(len, axes))) > _MOST:
        raise ConfigError("too large a grid", item=f"{item}.{GRID}", expected=f"at most {_MOST} rows", got=count)
    return [_row(given, choices, item) for choices in product(*axes)]


def _row(entry: Mapping[str, Any], choices: Sequence[_Choice], item: str) -> _Row:
    row = deepcopy(dict(entry))
    for choice in choices:
        for path, value in choice.values.items():
            node = row
            for key in path[:-1]:
                if node.get(key) is None:
                    node[key] = {}
                node = node[key]
                if not isinstance(node, dict):
                    raise ConfigError(
                        "a value has no keys below it", item=f"{item}.{key}", expected="a section", got=node
                    )
            node[path[-1]] = value
    suffix = "".join(choice.suffix for choice in choices)
    row["name"] += suffix
    return _Row(suffix, row)


def _reference_axes(entry: Mapping[str, Any], named: _Named) -> Iterator[list[_Choice]]:
    """An axis for each entry with several rows that this one names; keys that name the same one change together."""
    paths: dict[str, list[tuple[str, ...]]] = {}
    rows: dict[str, Sequence[_Row]] = {}
    for path, several in named:
        name = _at(entry, path)
        if isinstance(name, str) and name in several:
            paths.setdefault(name, []).append(path)
            rows[name] = several[name]
    for name in rows:
        yield [_Choice(row.suffix, dict.fromkeys(paths[name], row.values["name"])) for row in rows[name]]


def _choices(axis: Axis, named: Mapping[tuple[str, ...], _Rows]) -> list[_Choice]:
    values = [name for value in axis.values for name in _names(value, named.get(axis.path, {}))]
    return [_Choice(f"-{axis.beginning}{in_a_name(value)}", {axis.path: value}) for value in values]


def _require_distinct(names: Sequence[str], path: str) -> None:
    """Refuse names that differ in case alone, too; of entries with grids both these and their rows' names count."""
    name, count = Counter(name.casefold() for name in names).most_common(1)[0]
    if count > 1:
        raise ConfigError("two entries, or rows of their grids, have one name", item=path, got=name)


def _names(value: Any, several: _Rows) -> list[Any]:
    """The rows' names that a reference stands for; the value itself where it names no entry with several."""
    known = isinstance(value, str) and value in several
    return [row.values["name"] for row in several[value]] if known else [value]


def _is_named(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str)


def _at(values: Any, path: Sequence[str]) -> Any:
    """The value at a path, None where there is none."""
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values

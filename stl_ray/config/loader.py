"""YAML file + key=value -> grids expanded -> Experiment, with errors that name the key, what was expected, and the nearest name."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stl_ray.config.grid import LISTS, expand
from stl_ray.config.keys import GRID, below, section_in
from stl_ray.config.sections import Experiment
from stl_ray.config.values import read, read_override
from stl_ray.errors import ConfigError
from stl_ray.options import expected_by, named, nearest
from stl_ray.uris import on_disk

AnySection = TypeVar("AnySection", bound=BaseModel)


def load_experiment(path: str, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in a YAML file, with `key=value` overrides such as `train.epochs=5`.

    Args:
        path: the YAML file.
        overrides: dotted keys and values as `values.read_override` takes them; lists take an index, such as
            `spaces.0.clusters=4`, and one that the file leaves out is the default's.

    Raises:
        ConfigError: if the file, a key or a grid is wrong; it names the key's path and what was expected.
        InputError: `path` can be none.
    """
    file = on_disk(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration ({error})", item=path) from error
    return read_experiment(text, path, overrides)


def read_experiment(text: str, item: str, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in a YAML text, as `load_experiment` reads it from a file.

    Args:
        text: the YAML document.
        item: its file, for messages.
        overrides: as for `load_experiment`.

    Raises:
        ConfigError: if the text, a key or a grid is wrong.
    """
    values = read(text, Experiment, item=item)
    if not isinstance(values, dict):
        raise ConfigError("not a configuration", item=item, expected="keys and values", got=type(values).__name__)
    for override in overrides:
        _apply(values, override)
    expanded = expand(values, Experiment)
    return parsed(Experiment, expanded.values, expanded.origins)


Origins = Mapping[tuple[int | str, ...], str]
"""By the path of a value, the path of the entry of a grid that it is from, as the configuration has it."""


def parsed(section: type[AnySection], values: Mapping[str, Any], origins: Origins | None = None) -> AnySection:
    """A section of plain values, as YAML holds them: numbers, text, lists, and mappings with text for keys.

    Raises:
        ConfigError: if a value is not plain, or a key is wrong; it names the key's path and what was expected.
    """
    try:
        # Through JSON: strict types, with lists for tuples and integers where a float is meant.
        return section.model_validate_json(json.dumps(values))
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            expected = "numbers, text, lists and mappings"
            raise ConfigError(f"not plain values ({error})", item="configuration", expected=expected) from error
        raise _explain(error, section, origins or {}) from error


def bundled(name: str) -> str:
    """The path of a configuration that ships with the package.

    Raises:
        ConfigError: if there is none of that name.
    """
    package = Path(__file__).resolve().parents[1]
    folders = [package / "configs", package.parent / "configs"]
    files = {file.stem: str(file) for folder in folders for file in folder.glob("*.yaml")}
    return named(files, name, kind="bundled configuration")


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError("not an override", item=override, expected="key=value, such as train.epochs=5")
    if not key.isascii():
        raise ConfigError("unknown key", item=ascii(key), expected=nearest(key, Experiment.model_fields))
    node: Any = values
    annotation: object = Experiment
    *parents, last = key.split(".")
    for parent in parents:
        if isinstance(node, list):
            node = _item(node, parent, override)
        else:
            if node.get(parent) is None:
                node[parent] = _left_out(annotation, parent)
            node = node[parent]
        annotation = below(annotation, parent)
        if not isinstance(node, dict | list):
            raise ConfigError("a value has no keys below it", item=override, expected="a section", got=node)
    value = read_override(text, below(annotation, last), key=key)
    if isinstance(node, list):
        _item(node, last, override)
        node[int(last)] = value
    else:
        node[last] = value


def _left_out(annotation: object, key: str) -> dict[str, Any] | list[Any]:
    """What a key that the file leaves out has below it: the entries of a list's default, nothing of a section."""
    section = section_in(annotation)
    default = section.model_fields[key].default if section and key in section.model_fields else None
    if not isinstance(default, tuple):
        return {}
    return [entry.model_dump(mode="json") if isinstance(entry, BaseModel) else entry for entry in default]


def _item(node: list[Any], index: str, override: str) -> Any:
    if not index.isdecimal() or int(index) >= len(node):
        expected = f"0 to {len(node) - 1}" if node else "a list in the file"
        raise ConfigError("no such entry of the list", item=override, expected=expected, got=index)
    return node[int(index)]


def _explain(error: ValidationError, section: type[BaseModel], origins: Origins) -> ConfigError:
    details = error.errors()
    # pydantic also reports too few items for a list whose items are wrong.
    wrong = {detail["loc"][:length] for detail in details for length in range(len(detail["loc"]))}
    problems = [
        _problem(detail, section, origins)
        for detail in details
        if detail["type"] != "too_short" or detail["loc"] not in wrong
    ]
    if len(problems) == 1:
        message, item, expected, got = problems[0]
        return ConfigError(message, item=item, expected=expected, got=got)
    lines = [str(ConfigError(message, item=item, expected=e, got=g)) for message, item, e, g in problems]
    return ConfigError(f"{len(lines)} keys are wrong:\n  " + "\n  ".join(lines))


def _problem(detail: ErrorDetails, section: type[BaseModel], origins: Origins) -> tuple[str, str, object, object]:
    path = _written(detail["loc"], origins) or "configuration"
    if detail["type"] == "extra_forbidden":
        return "unknown key", path, nearest(str(detail["loc"][-1]), _keys_at(section, detail["loc"][:-1])), None
    if detail["type"] == "missing":
        return "missing key", path, "a value", None
    if detail["type"] == "value_error":
        return detail["msg"].removeprefix("Value error, "), path, None, None
    return "wrong value", path, expected_by(detail), repr(detail["input"])


def _written(location: tuple[int | str, ...], origins: Origins) -> str:
    """The path of a value as the configuration has it, an entry that a grid made by its name."""
    row = next((location[:end] for end in range(len(location), 0, -1) if location[:end] in origins), ())
    return ".".join([*([origins[row]] if row else []), *map(str, location[len(row) :])])


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys of the section at a path below a section."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = section_in(model.model_fields[part].annotation) or model
    is_entry = ".".join(str(part) for part in location[:-1]) in LISTS and isinstance(location[-1], int)
    return [*model.model_fields, *([GRID] if is_entry else [])]

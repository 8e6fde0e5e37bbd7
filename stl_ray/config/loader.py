"""YAML file + key=value -> Experiment, with errors that name the key, what was expected, and the nearest name."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stl_ray.config.keys import below, is_list, section_in
from stl_ray.config.sections import Experiment
from stl_ray.config.values import read, read_override
from stl_ray.errors import ConfigError
from stl_ray.options import expected_by, named, nearest

AnySection = TypeVar("AnySection", bound=BaseModel)


def load_experiment(path: str, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in a YAML file, with `key=value` overrides such as `fit.clusters=4`.

    Args:
        path: the YAML file.
        overrides: dotted keys and values as `values.read_override` takes them; lists take an index, such as
            `attack.sets.0.dissimilarity=0.1`.

    Raises:
        ConfigError: if the file or a key is wrong; it names the key's path and what was expected.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration ({error})", item=path) from error
    values = read(text, Experiment, item=path)
    if not isinstance(values, dict):
        raise ConfigError("not a configuration", item=path, expected="keys and values", got=type(values).__name__)
    for override in overrides:
        _apply(values, override)
    return parsed(Experiment, values)


def parsed(section: type[AnySection], values: Mapping[str, Any]) -> AnySection:
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
        raise _explain(error, section) from error


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
        raise ConfigError("not an override", item=override, expected="key=value, such as fit.clusters=4")
    if not key.isascii():
        raise ConfigError("unknown key", item=ascii(key), expected=nearest(key, Experiment.model_fields))
    node: Any = values
    annotation: object = Experiment
    *parents, last = key.split(".")
    for parent in parents:
        annotation = below(annotation, parent)
        if isinstance(node, list):
            node = _item(node, parent, override)
        else:
            if node.get(parent) is None:
                node[parent] = [] if is_list(annotation) else {}
            node = node[parent]
        if not isinstance(node, dict | list):
            raise ConfigError("a value has no keys below it", item=override, expected="a section", got=node)
    value = read_override(text, below(annotation, last), key=key)
    if isinstance(node, list):
        _item(node, last, override)
        node[int(last)] = value
    else:
        node[last] = value


def _item(node: list[Any], index: str, override: str) -> Any:
    if not index.isdecimal() or int(index) >= len(node):
        expected = f"0 to {len(node) - 1}" if node else "a list in the file"
        raise ConfigError("no such entry of the list", item=override, expected=expected, got=index)
    return node[int(index)]


def _explain(error: ValidationError, section: type[BaseModel]) -> ConfigError:
    details = error.errors()
    # pydantic also reports too few items for a list whose items are wrong.
    wrong = {detail["loc"][:length] for detail in details for length in range(len(detail["loc"]))}
    problems = [
        _problem(detail, section) for detail in details if detail["type"] != "too_short" or detail["loc"] not in wrong
    ]
    if len(problems) == 1:
        message, item, expected, got = problems[0]
        return ConfigError(message, item=item, expected=expected, got=got)
    lines = [str(ConfigError(message, item=item, expected=e, got=g)) for message, item, e, g in problems]
    return ConfigError(f"{len(lines)} keys are wrong:\n  " + "\n  ".join(lines))


def _problem(detail: ErrorDetails, section: type[BaseModel]) -> tuple[str, str, object, object]:
    path = ".".join(str(part) for part in detail["loc"]) or "configuration"
    if detail["type"] == "extra_forbidden":
        return "unknown key", path, nearest(str(detail["loc"][-1]), _keys_at(section, detail["loc"][:-1])), None
    if detail["type"] == "missing":
        return "missing key", path, "a value", None
    if detail["type"] == "value_error":
        return detail["msg"].removeprefix("Value error, "), path, None, None
    return "wrong value", path, expected_by(detail), repr(detail["input"])


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys of the section at a path below a section."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = section_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)

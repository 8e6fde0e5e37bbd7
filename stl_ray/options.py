"""Methods chosen by name with typed options: the errors of a wrong name or option, for every registry."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stl_ray.errors import ConfigError

Row = TypeVar("Row")
Options = TypeVar("Options", bound=BaseModel)


def named(table: Mapping[str, Row], name: str, *, kind: str) -> Row:
    """The row of a registry.

    Args:
        table: the registry.
        name: the row's name.
        kind: what the registry holds, such as "attack", for the message.

    Raises:
        ConfigError: if there is no such row; it gives the nearest name.
    """
    if name not in table:
        raise ConfigError(f"unknown {kind}", item=name, expected=nearest(name, table))
    return table[name]


def with_options(section: type[Options], options: Mapping[str, object], *, item: str) -> Options:
    """A section made of the options that a user gave for it.

    Args:
        section: the pydantic model of the options.
        options: their values by name.
        item: the method that they are for, for the message.

    Raises:
        ConfigError: if an option is unknown, of the wrong type or out of range; it names the first that is wrong.
    """
    try:
        return section.model_validate(dict(options))
    except ValidationError as error:
        raise _explain(error.errors()[0], section, item) from error


def _explain(detail: ErrorDetails, section: type[BaseModel], item: str) -> ConfigError:
    option = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return ConfigError("unknown option", item=f"{item}.{option}", expected=nearest(option, section.model_fields))
    expected = detail["msg"].removeprefix("Input should be ")
    return ConfigError("wrong option", item=f"{item}.{option}", expected=expected, got=repr(detail["input"]))


def nearest(name: str, known: Iterable[str]) -> str:
    """What a wrong name was probably meant to be: the nearest known one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"{close[0]!r}?" if close else f"one of {', '.join(known)}" if known else "none, it has no options"

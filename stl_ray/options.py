"""Names and options that a user gives: the errors of a wrong one, said in one way wherever there is a choice."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stl_ray.errors import ConfigError, StlRayError

Row = TypeVar("Row")
Options = TypeVar("Options", bound=BaseModel)

_QUOTED = re.compile("'([^']*)'")  # as pydantic lists the names of a choice


def named(table: Mapping[str, Row], name: str, *, kind: str) -> Row:
    """The row of a registry.

    Args:
        table: the registry.
        name: the row's name.
        kind: what the registry holds, such as "attack", for the message.

    Raises:
        ConfigError: if there is no such row; it gives the nearest name, and all names.
    """
    require_known(name, table, kind=kind)
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
        expected = nearest(option, section.model_fields) if section.model_fields else "none, it has no options"
        return ConfigError("unknown option", item=f"{item}.{option}", expected=expected)
    return ConfigError("wrong option", item=f"{item}.{option}", expected=expected_by(detail), got=repr(detail["input"]))


def expected_by(detail: ErrorDetails) -> str:
    """What a section expected of a value: of a choice of names as `nearest` says it, else in pydantic's words."""
    names = _QUOTED.findall(detail["ctx"]["expected"]) if detail["type"] == "literal_error" else []
    return nearest(str(detail["input"]), names) if names else detail["msg"].removeprefix("Input should be ")


def require_known(name: str, known: Iterable[str], *, kind: str, error: type[StlRayError] = ConfigError) -> None:
    """Refuse a name that is none of the known ones.

    Args:
        name: as the user gave it.
        known: the names that there are.
        kind: what they are names of, such as "attack", for the message.
        error: what to raise.

    Raises:
        StlRayError: of the given class, with the nearest name and all of them.
    """
    known = list(known)
    if name not in known:
        raise error(f"unknown {kind}", item=name, expected=nearest(name, known))


def nearest(name: object, known: Iterable[str]) -> str:
    """What a wrong name was probably meant to be, and all that it can be: `'fgsm'? (one of bim, fgsm)`.

    Args:
        name: the wrong one; letters in upper case, blanks and signs in it do not count.
        known: the names that there are.
    """
    known = sorted(known)
    close = closest(name, known)
    listed = f"one of {', '.join(known)}" if known else "none"
    return f"{close!r}? ({listed})" if close is not None else listed


def closest(name: object, known: Iterable[str]) -> str | None:
    """The known name that a wrong one is nearest to, as `nearest` compares; None where none is near."""
    alike = {_bare(candidate): candidate for candidate in sorted(known, reverse=True)}
    close = difflib.get_close_matches(_bare(name), alike, n=1)
    return alike[close[0]] if close else None


def _bare(name: object) -> str:
    return re.sub("[^a-z0-9]", "", str(name).casefold())

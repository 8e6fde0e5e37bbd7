"""The base of every section, and the types of its keys."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from stl_ray.errors import InputError
from stl_ray.uris import normalized

# Two names, or one and a word of ours, are the name of a file or folder, which has 255 characters at most.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        expected = "1 to 100 ASCII letters, digits, ., _ and -, a letter or digit first"
        raise ValueError(f"not a name; expected {expected}; got {name!r}")
    return name


Name = Annotated[str, AfterValidator(_named)]
"""A name that the user gives, a part of paths. Names that are looked up in a registry are plain text, checked there."""


def absolute(path: str) -> str:
    """A path that means the same file for every worker, wherever it runs."""
    try:
        return normalized(path)
    except InputError as error:
        raise ValueError(str(InputError(error.message, expected=error.expected, got=error.got))) from None


Location = Annotated[str, AfterValidator(absolute)]
"""A path or URI; a relative path is taken from the folder in which the command is given."""


class Section(BaseModel):
    """Immutable, typed, and closed: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


OptionValue = bool | int | float | str
"""A value of an option of an attack or a defense."""

"""The types of keys: what an annotation of a section says of a value, and of the values below it."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Literal, get_args, get_origin

from pydantic import BaseModel

GRID = "grid"
"""The key of an entry that lists values of other keys (`config.grid`); no field of any section."""


@dataclass(frozen=True)
class GridOf:
    """The annotation of a `grid`: below it, keys of the entry have lists of their values."""

    entry: type[BaseModel]


def grid_path(entry: type[BaseModel], key: str) -> tuple[str, ...]:
    """The keys that lead from an entry to a key of its grid: a bare name that is no key of the entry is an option."""
    bare = "." not in key and key not in entry.model_fields and "options" in entry.model_fields
    return ("options", key) if bare else tuple(key.split("."))


def section_in(annotation: object) -> type[BaseModel] | None:
    """The section inside an annotation such as Source, tuple[NamedAttack, ...] or Source | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((section for argument in get_args(annotation) if (section := section_in(argument))), None)


def is_text(annotation: object) -> bool:
    """Whether a value is text, or null where the key may be absent: str, a choice of names, Location | None."""
    if get_origin(annotation) is Annotated:
        return is_text(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return all(isinstance(choice, str) for choice in get_args(annotation))
    arguments = [argument for argument in get_args(annotation) if argument is not NoneType]
    if get_origin(annotation) in (tuple, dict):
        return False
    return all(map(is_text, arguments)) if arguments else annotation is str


def holds_more(annotation: object) -> bool:
    """Whether a value has keys or entries below it."""
    origins: list[object] = [get_origin(kind) for kind in (annotation, *get_args(annotation))]
    return section_in(annotation) is not None or tuple in origins or dict in origins


def below(annotation: object, key: str) -> object:
    """The annotation of a key, or of an entry of a list, below a value; None where there is none of that name."""
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    if get_origin(annotation) is tuple:
        return get_args(annotation)[0]
    if isinstance(annotation, GridOf):
        value = below_all(annotation.entry, grid_path(annotation.entry, key))
        return None if value is None else tuple[value, ...]  # type: ignore[valid-type]  # made as it is needed
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if key in annotation.model_fields:
            return annotation.model_fields[key].annotation
        return GridOf(annotation) if key == GRID else None
    return next((found for argument in get_args(annotation) if (found := below(argument, key)) is not None), None)


def below_all(annotation: object, path: Sequence[str]) -> object:
    """The annotation at the end of a path of keys below a value; None where there is none."""
    for key in path:
        annotation = below(annotation, key)
    return annotation

"""The types of keys: what an annotation of a section says of a value, and of the values below it."""

from types import NoneType
from typing import Annotated, Literal, get_args, get_origin

from pydantic import BaseModel


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


def is_list(annotation: object) -> bool:
    """Whether a value is a list, alone or where the key may be absent."""
    return tuple in [get_origin(kind) for kind in (annotation, *get_args(annotation))]


def below(annotation: object, key: str) -> object:
    """The annotation of a key, or of an entry of a list, below a value; None where there is none of that name."""
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    if get_origin(annotation) is tuple:
        return get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.model_fields[key].annotation if key in annotation.model_fields else None
    return next((found for argument in get_args(annotation) if (found := below(argument, key)) is not None), None)

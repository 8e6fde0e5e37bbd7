"""The jobs, and the explanation of every key that each reads, made from the models' own descriptions."""

from collections.abc import Iterator
from typing import Annotated, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from stl_ray.config import grid
from stl_ray.config.keys import GRID, section_in
from stl_ray.config.sections import Experiment
from stl_ray.config.training import Recipe, TrainConfig


class Job(NamedTuple):
    """The description of a job for users.

    Attributes:
        summary: what goes in -> what comes out.
        sections: the keys that it reads besides `SHARED`.
    """

    summary: str
    sections: tuple[str, ...]


JOBS = {
    "ingest": Job("files of any kind -> image shards", ("ingest",)),
    "fit": Job(
        "training shards -> the stratified spaces, and what other defenses are fitted with",
        ("classifiers", "spaces", "defenses", "solver"),
    ),
    "project": Job(
        "image shards -> purified image shards, through every defense",
        ("ingest", "classifiers", "spaces", "defenses", "solver", "project"),
    ),
    "train": Job(
        "classifiers on clean and on purified shards",
        ("ingest", "classifiers", "spaces", "defenses", "solver", "train"),
    ),
    "attack": Job(
        "image shards -> adversarial image shards, crafted on every scored classifier or a victim of your own",
        ("classifiers", "spaces", "defenses", "solver", "attack"),
    ),
    "evaluate": Job(
        "every defense x attack x classifier -> scores with intervals",
        ("classifiers", "spaces", "defenses", "solver", "attack", "evaluate"),
    ),
    "report": Job("scores -> tables, figures, one HTML page", ("report",)),
}
"""The jobs in their order."""

SHARED = ("name", "root", "seed", "max_quarantined", "ray")


def explain_keys(job: str) -> str:
    """Every key that a job reads: path, type, default, meaning; one key a paragraph."""
    names = (*SHARED, *JOBS[job].sections)
    lines = [
        "keys (in the YAML file, or as key=value after it, where text is all that follows =, quotes around all of it left out;",
        "a list is [a, b], a section {key: value}, null stands for absent):",
    ]
    for name in names:
        lines += list(_lines(name, Experiment.model_fields[name]))
    return "\n".join(lines)


def explain_options(section: type[BaseModel]) -> str:
    """Every option of a method: name, type, default, meaning; one a paragraph."""
    return "\n".join(line for name, field in section.model_fields.items() for line in _lines(name, field))


def _lines(path: str, field: FieldInfo) -> Iterator[str]:
    section = section_in(field.annotation)
    if section is None or field.description:
        default = "" if field.default is PydanticUndefined or section else f" [{_show(field.default)}]"
        required = " (required)" if field.is_required() else ""
        yield f"  {path}: {_type(field.annotation)}{default}{required}"
        if field.description:
            yield f"      {field.description}"
    if section is not None:
        inner = f"{path}.N" if "tuple" in str(field.annotation) else path
        # A recipe's keys are explained once, as those of `train`.
        known = Recipe.model_fields if issubclass(section, Recipe) and section is not TrainConfig else {}
        for name, child in section.model_fields.items():
            if name in known:
                continue
            yield from _lines(f"{inner}.{name}", child)
        if path in grid.LISTS:
            yield f"  {inner}.{GRID}: mapping [absent]"
            yield f"      {grid.DESCRIPTION}"


def _show(value: object) -> str:
    if value is None:
        return "absent"
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _type(annotation: object) -> str:
    if isinstance(annotation, type):
        return "section" if issubclass(annotation, BaseModel) else annotation.__name__
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _type(arguments[0])
    if get_origin(annotation) is dict:
        return "mapping"
    if section_in(annotation) is not None:
        absent = " | absent" * (type(None) in arguments)
        return "list of sections" if "tuple" in str(annotation) else f"section{absent}"
    if "Literal" in str(annotation):
        inner = get_args(arguments[0]) if "tuple" in str(annotation) else arguments
        names = " | ".join(str(item) for item in inner)
        return f"list of {names}" if "tuple" in str(annotation) else names
    if get_origin(annotation) is tuple:
        return f"list of {_type(arguments[0])}"
    return " | ".join("absent" if argument is type(None) else _type(argument) for argument in arguments) or "text"

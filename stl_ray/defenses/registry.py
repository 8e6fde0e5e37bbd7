"""The defenses by name: a new one is one file and one row."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import Field

from stl_ray.config.sections import Section, StlConfig
from stl_ray.defenses.base import Defense
from stl_ray.defenses.jpeg import Jpeg
from stl_ray.defenses.stl import SparseTransformation
from stl_ray.defenses.undefended import Undefended
from stl_ray.errors import ConfigError
from stl_ray.options import named, with_options
from stl_ray.space import QuasiNaturalSpace


class NoOptions(Section):
    """Of a defense that has none of its own."""


class JpegOptions(Section):
    """Of jpeg."""

    quality: int = Field(75, ge=1, le=100, description="libjpeg's quality")


class Row(NamedTuple):
    """The options of a defense, how it is made of (options, space, stl), and whether there must be a space."""

    options: type[Section]
    make: Callable[[Any, Any, StlConfig], Defense]
    needs_space: bool = False


DEFENSES: dict[str, Row] = {
    "none": Row(NoOptions, lambda options, space, stl: Undefended()),
    "jpeg": Row(JpegOptions, lambda options, space, stl: Jpeg(options.quality)),
    "stl": Row(
        NoOptions, lambda options, space, stl: SparseTransformation("stl", space.universal(), stl), needs_space=True
    ),
    "stl_cluster": Row(
        NoOptions, lambda options, space, stl: SparseTransformation("stl_cluster", space, stl), needs_space=True
    ),
}


def needs_space(name: str) -> bool:
    """Whether a defense cannot be made without a fitted space.

    Raises:
        ConfigError: if there is no such defense.
    """
    return named(DEFENSES, name, kind="defense").needs_space


def check_defense(name: str, options: Mapping[str, object]) -> None:
    """Refuse a name or options that `make_defense` would refuse; needs no space.

    Raises:
        ConfigError: as `make_defense`.
    """
    with_options(named(DEFENSES, name, kind="defense").options, options, item=name)


def make_defense(
    name: str, options: Mapping[str, object], *, space: QuasiNaturalSpace | None, stl: StlConfig
) -> Defense:
    """The defense of that name with its options.

    Args:
        name: a key of `DEFENSES`.
        options: the defense's own options.
        space: the fitted space; may be absent where the defense does not need one.
        stl: how projections are solved and finished.

    Raises:
        ConfigError: if the name or an option is unknown, an option has the wrong type or range, or a space is missing.
    """
    row = named(DEFENSES, name, kind="defense")
    chosen = with_options(row.options, options, item=name)
    if row.needs_space and space is None:
        raise ConfigError("the defense projects onto a fitted space", item=name, expected="a space", got="none")
    return row.make(chosen, space, stl)

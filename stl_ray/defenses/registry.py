"""The defenses by name: a new one is one file and one row."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import Field

from stl_ray.config.sections import Section
from stl_ray.defenses.base import Defense, Resources
from stl_ray.defenses.jpeg import Jpeg
from stl_ray.defenses.stl import SparseTransformation
from stl_ray.defenses.undefended import Undefended
from stl_ray.errors import ConfigError
from stl_ray.options import named, with_options


class NoOptions(Section):
    """The options of a defense without any."""


class JpegOptions(Section):
    """The options of jpeg."""

    quality: int = Field(75, ge=1, le=100, description="libjpeg's quality")


class Row(NamedTuple):
    """The options of a defense, its class, which names what it requires, and its maker from options and resources."""

    options: type[Section]
    defense: type[Defense]
    make: Callable[[Any, Resources], Defense]


DEFENSES: dict[str, Row] = {
    "none": Row(NoOptions, Undefended, lambda options, resources: Undefended()),
    "jpeg": Row(JpegOptions, Jpeg, lambda options, resources: Jpeg(options.quality)),
    "stl": Row(
        NoOptions,
        SparseTransformation,
        lambda options, resources: SparseTransformation("stl", resources["space"].universal(), resources["stl"]),
    ),
    "stl_cluster": Row(
        NoOptions,
        SparseTransformation,
        lambda options, resources: SparseTransformation("stl_cluster", resources["space"], resources["stl"]),
    ),
}


def required_by(name: str) -> frozenset[str]:
    """Names of the resources that a defense cannot be made without.

    Raises:
        ConfigError: if there is no such defense.
    """
    return named(DEFENSES, name, kind="defense").defense.requires


def check_defense(name: str, options: Mapping[str, object]) -> None:
    """Refuse a name or options that `make_defense` would refuse; needs no resources.

    Raises:
        ConfigError: as `make_defense`.
    """
    with_options(named(DEFENSES, name, kind="defense").options, options, item=name)


def make_defense(name: str, options: Mapping[str, object], resources: Resources) -> Defense:
    """The defense of that name with its options.

    Args:
        name: a key of `DEFENSES`.
        options: the defense's own options.
        resources: at least what it requires; "space" is the fitted space (`QuasiNaturalSpace`), "stl" how projections are
            solved and finished (`StlConfig`).

    Raises:
        ConfigError: if the name or an option is unknown, an option has the wrong type or range, or a resource is missing.
    """
    row = named(DEFENSES, name, kind="defense")
    chosen = with_options(row.options, options, item=name)
    missing = sorted(row.defense.requires - resources.keys())
    if missing:
        expected, got = (", ".join(sorted(names)) or "none" for names in (row.defense.requires, resources))
        raise ConfigError(
            f"the defense cannot be made without {', '.join(missing)}", item=name, expected=expected, got=got
        )
    return row.make(chosen, resources)

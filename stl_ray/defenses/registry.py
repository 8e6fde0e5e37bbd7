"""The defenses by name: a new one is one file and one row."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import Field

from stl_ray.config.sections import Section
from stl_ray.defenses.base import Defense, Resources
from stl_ray.defenses.jpeg import Jpeg
from stl_ray.defenses.stl import SparseTransformation, StlOptions
from stl_ray.defenses.tvm import TotalVariation, TvmOptions
from stl_ray.defenses.undefended import Undefended
from stl_ray.errors import ConfigError
from stl_ray.options import named, with_options
from stl_ray.space import QuasiNaturalSpace


class NoOptions(Section):
    """The options of a defense without any."""


class JpegOptions(Section):
    """The options of jpeg."""

    quality: int = Field(75, ge=1, le=100, description="libjpeg's quality")


class Row(NamedTuple):
    """The options of a defense, its class, which names what it requires, its maker from options and resources, and
    whether the space that it requires must have clusters."""

    options: type[Section]
    defense: type[Defense]
    make: Callable[[Any, Resources], Defense]
    clusters: bool = False


def _stl(options: StlOptions, resources: Resources) -> Defense:
    return SparseTransformation("stl", _at(options, resources["space"].universal()), options, resources["solver"])


def _stl_cluster(options: StlOptions, resources: Resources) -> Defense:
    return SparseTransformation("stl_cluster", _at(options, resources["space"]), options, resources["solver"])


def _at(options: StlOptions, space: QuasiNaturalSpace) -> QuasiNaturalSpace:
    """The space at the lambda of the options."""
    return space if options.lmbda is None else replace(space, lmbda=options.lmbda)


DEFENSES: dict[str, Row] = {
    "none": Row(NoOptions, Undefended, lambda options, resources: Undefended()),
    "jpeg": Row(JpegOptions, Jpeg, lambda options, resources: Jpeg(options.quality)),
    "tvm": Row(TvmOptions, TotalVariation, lambda options, resources: TotalVariation(options)),
    "stl": Row(StlOptions, SparseTransformation, _stl),
    "stl_cluster": Row(StlOptions, SparseTransformation, _stl_cluster, clusters=True),
}


def required_by(name: str) -> frozenset[str]:
    """Names of the resources that a defense cannot be made without.

    Raises:
        ConfigError: if there is no such defense.
    """
    return named(DEFENSES, name, kind="defense").defense.requires


def check_clusters(name: str, *, clustered: bool, space: str) -> None:
    """Refuse a defense that chooses among clusters for a space that has none.

    Args:
        name: a key of `DEFENSES`.
        clustered: whether the space has clusters.
        space: its name or place, for the message.

    Raises:
        ConfigError: if the space does not do; or there is no such defense.
    """
    if named(DEFENSES, name, kind="defense").clusters and not clustered:
        raise ConfigError(
            "the space has no clusters to choose among", item=name, expected="a space that was fitted, or stl for this one",
            got=space,
        )  # fmt: skip


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
        resources: at least what it requires; "space" is the space that it projects onto (`QuasiNaturalSpace`), "solver"
            the method by which it does (a name of `stl_ray.csc.METHODS`, or "auto").

    Raises:
        ConfigError: if the name or an option is unknown, an option has the wrong type or range, a resource is missing, or
            the space has no clusters where the defense chooses among them.
    """
    row = named(DEFENSES, name, kind="defense")
    chosen = with_options(row.options, options, item=name)
    missing = sorted(row.defense.requires - resources.keys())
    if missing:
        expected, got = (", ".join(sorted(names)) or "none" for names in (row.defense.requires, resources))
        raise ConfigError(
            f"the defense cannot be made without {', '.join(missing)}", item=name, expected=expected, got=got
        )
    if row.clusters:
        space: QuasiNaturalSpace = resources["space"]
        check_clusters(name, clustered=space.router is not None, space=f"digest {space.digest}")
    return row.make(chosen, resources)

"""The options of a defense, which say what it cannot be made without."""

from collections.abc import Mapping
from typing import Any

from stl_ray.config.sections import Section

Resources = Mapping[str, Any]
"""Inputs of defenses besides their own options, by name: an artifact such as a space, a setting that all share."""


class DefenseOptions(Section):
    """The options of a defense; without any of its own, of one that has none."""

    @property
    def requires(self) -> frozenset[str]:
        """Names of the resources that the defense cannot be made without, such as "space"."""
        return frozenset()

    @property
    def detects(self) -> bool:
        """Whether the defense refuses images, by a detector that is calibrated on training images (`Detecting`)."""
        return False

    @property
    def members(self) -> tuple[str, ...]:
        """Names of other defenses of the experiment, transformations, that it is made of (resource "members", by name)."""
        return ()

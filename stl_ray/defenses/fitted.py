"""What a defense may be fitted with: an artifact that `fit` makes from training images by a recipe.

Defenses with equal recipes share one artifact. What a network or a library is made of belongs to its recipe; how a
defense uses it does not.
"""

from abc import abstractmethod
from typing import Any, ClassVar

from pydantic import Field

from stl_ray.config.base import Location, Section
from stl_ray.defenses.options import DefenseOptions


class ArtifactRecipe(Section):
    """Whatever decides an artifact, but for the training images and the seed."""

    kind: ClassVar[str]
    """What the artifact is, such as "patch_library"; the name of its files and part of its folder's."""

    @property
    def looks_with(self) -> str | None:
        """Name of a classifier of the experiment that training images are looked at with; its weights are given."""
        return None

    @abstractmethod
    def load(self, folder: str) -> Any:
        """The artifact in a folder, as the defense takes it.

        Raises:
            ArtifactError: it is missing, unreadable, altered, of another version, or of no use to this defense.
        """


class FittedOptions(DefenseOptions):
    """The options of a defense that is fitted."""

    load: Location | None = Field(
        None, description="folder or URI of its artifact, as `fit` of another experiment left it below artifacts/; absent: fitted "
        "here from the training images"
    )  # fmt: skip

    @property
    def requires(self) -> frozenset[str]:
        """The artifact."""
        return frozenset({"artifact"})

    @property
    @abstractmethod
    def recipe(self) -> ArtifactRecipe:
        """What the artifact is made by."""

"""The keys of `classifiers`: the networks of an experiment by name."""

import re
from collections.abc import Collection
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from stl_ray.config.base import Name, Section, absolute
from stl_ray.config.training import Recipe, Retraining

LIBRARIES = ("torchvision", "timm")
"""Prefixes of architectures that are no modules of the user's."""

IMAGENET = "imagenet"
"""The classes of ILSVRC 2012, in the usual order."""

PRETRAINED = "pretrained"
"""The weights that timm publishes for an architecture."""

PUBLISHED = re.compile(r"^\w+_Weights\.\w+$")
"""A member of torchvision's weights enums, such as ResNet50_Weights.IMAGENET1K_V2."""

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


def _weights(value: str) -> str:
    """A file or folder, or published weights, which are no path."""
    return value if is_published(value) else absolute(value)


def is_published(weights: str) -> bool:
    """Whether weights are those that torchvision or timm publish, by their name; else they are a place."""
    return weights == PRETRAINED or PUBLISHED.match(weights) is not None


def is_function(reference: str) -> bool:
    """Whether an architecture or a defense is a user's own, `module:function`."""
    library, colon, _ = reference.partition(":")
    return bool(colon) and library not in LIBRARIES


def _classes(value: str) -> str:
    return value if value == IMAGENET else absolute(value)


class ClassifierConfig(Section):
    """One classifier under a name: trained here, or used as it is."""

    name: Name = Field(description="name of the classifier in paths and tables")
    architecture: str = Field(
        description="a network for small images by name (small_cnn, cifar_resnet56, resnet18_small, ...), torchvision:NAME, "
        "timm:NAME (with the extra timm), or module:function, which returns a torch module on [0, 1] images"
    )
    weights: Annotated[str, AfterValidator(_weights)] | None = Field(
        None, description="a file with a state dict (.safetensors or torch's), the folder of a classifier that was trained "
        "here, published weights of torchvision such as ResNet50_Weights.IMAGENET1K_V2, or pretrained, those of timm; "
        "absent: module:function comes with its own, every other one is trained from scratch"
    )  # fmt: skip
    classes: Annotated[str, AfterValidator(_classes)] | tuple[str, ...] | None = Field(
        None, description="the classes in the order of its logits: imagenet, a list of names, or a file with one name a line (.json: a list); "
        "absent: those of the images. Images of fewer classes are scored among all of them"
    )  # fmt: skip
    recipe: Recipe | None = Field(
        None, description="trained here: the keys of train that differ for it; absent: trained by the keys of train where there "
        "are no weights, else used as it is"
    )  # fmt: skip
    retrain: Retraining | None = Field(
        None,
        description="also trained anew for each defense, on its output: the keys of train that differ for it, and those "
        "below; absent: the same classifier stands behind all",
    )
    scored: bool = Field(
        True, description="whether the tables have a block of rows for it; false: only a victim of attacks, or a start"
    )

    @property
    def trained(self) -> bool:
        """Whether the job `train` makes it; else it is used with its weights as they are."""
        return self.recipe is not None or (self.weights is None and not is_function(self.architecture))

    def retrained_for(self, defense: str) -> bool:
        """Whether it has a version of its own behind a defense of that name."""
        return self.retrain is not None and (self.retrain.defenses is None or defense in self.retrain.defenses)

    def with_recipes(self, common: Recipe) -> "ClassifierConfig":
        """The classifier with whole recipes: what it does not say is said by a common one.

        Raises:
            ValueError: keys of its own and common ones contradict each other; it names the classifier.
        """
        recipe = self.recipe if self.recipe is not None else Recipe() if self.trained else None
        whole = {
            "recipe": _whole(recipe, common, f"the recipe of {self.name}"),
            "retrain": _whole(self.retrain, common, f"retrain of {self.name}"),
        }
        return self.model_copy(update=whole)


def _whole(recipe: AnyRecipe | None, common: Recipe, what: str) -> AnyRecipe | None:
    if recipe is None:
        return None
    shared: Collection[str] = common.model_fields_set & Recipe.model_fields.keys()
    given = {name: getattr(common, name) for name in shared} | {
        name: getattr(recipe, name) for name in recipe.model_fields_set
    }
    try:
        return type(recipe)(**given)
    except ValidationError as error:
        # Every value was right by itself.
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ValueError(f"{what}, with the keys of train: {said}") from error

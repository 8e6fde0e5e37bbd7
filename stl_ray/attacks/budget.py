"""Perturbation budgets: a norm, its size, and for L2 the space of the measurement.

`pixel`: [0, 1] pixels. `standardized`: x' - x and x are measured after (x - mean) / std with ImageNet's constants, as
in the code of Guo et al. 2018; the same number then allows about half of the change, because ||x|| lacks the mean.
Results carry both dissimilarities.
"""

from collections.abc import Iterable
from math import fsum, sqrt
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from stl_ray.config.attacks import Budgeted
from stl_ray.config.sections import Section
from stl_ray.errors import InputError
from stl_ray.metrics import l2_norm
from stl_ray.models.classifier import IMAGENET_MEAN, IMAGENET_STD

Norm = Literal["l2", "linf"]
Store = Literal["u8", "f32"]

LEVELS = 255


class Budget(Section):
    """The largest allowed perturbation of every image.

    `dissimilarity` is ||x' - x|| / ||x|| in L2; `l2` is ||x' - x||, and `linf` the largest change of a value, both of
    [0, 1] pixels.
    """

    kind: Literal["dissimilarity", "l2", "linf"] = "dissimilarity"
    size: float = Field(gt=0, description="dissimilarity and linf at most 1")
    space: Literal["pixel", "standardized"] = "pixel"

    @model_validator(mode="after")
    def _is_possible(self) -> "Budget":
        if self.kind != "l2" and self.size > 1:
            raise ValueError(f"{self.kind} is at most 1; got {self.size}")
        if self.kind == "linf" and self.space != "pixel":
            raise ValueError("linf is measured in pixels")
        return self

    @property
    def norm(self) -> Norm:
        """The norm of the ball."""
        return "linf" if self.kind == "linf" else "l2"

    def radius(self, images: Tensor) -> Tensor:
        """Radius of every image's ball in [0, 1] pixels, (B,), for crafting.

        The standardized ball is an ellipsoid in pixels, with axes that differ by 2 %; its radius here is that of the
        ball of the same mean square. `stl_ray.attacks.budget_projection` then projects in the standardized space
        itself.
        """
        if self.kind == "dissimilarity":
            scale = 1.0 if self.space == "pixel" else 1 / _mean_weight()
            return scale * self.size * l2_norm(images if self.space == "pixel" else standardized(images))
        scale = 1.0 if self.space == "pixel" else 1 / _mean_weight()
        return images.new_full((len(images),), scale * self.size)

    def radius_in_levels(self, clean: Tensor) -> float:
        """The exact radius of one image's ball, in levels of the budget's space.

        Args:
            clean: (3, H, W) float64 levels, 0 to 255.
        """
        if self.kind != "dissimilarity":
            return self.size * LEVELS
        image = clean if self.space == "pixel" else standardized(clean / LEVELS) * LEVELS
        return self.size * float(image.square().sum().sqrt())

    def weights(self, clean: Tensor) -> Tensor:
        """Factors of a change in the budget's space, (3, 1, 1) float64; ones in pixels."""
        ones = torch.ones(3, 1, 1, dtype=torch.float64, device=clean.device)
        return ones if self.space == "pixel" else ones / _channels(IMAGENET_STD, ones)


def budget_of(config: Budgeted) -> Budget:
    """The budget that a configuration gives, in [0, 1] pixels."""
    if config.linf is not None:
        return Budget(kind="linf", size=config.linf / 255)
    if config.l2 is not None:
        return Budget(kind="l2", size=config.l2, space=config.space)
    return Budget(size=float(config.dissimilarity or 0), space=config.space)


def at_mean(budget: Budget, batches: Iterable[Tensor], item: str) -> Budget:
    """The one L2 radius for all images at which their mean dissimilarity is the budget, whatever their batches.

    Black images have no dissimilarity and are left out.

    Args:
        budget: the mean dissimilarity.
        batches: of the images, (B, 3, H, W) in [0, 1].
        item: the images, for the message.

    Raises:
        InputError: every image is black.
    """
    norms = [
        norm
        for images in batches
        for norm in l2_norm((images if budget.space == "pixel" else standardized(images)).double()).tolist()
        if norm > 0
    ]
    if not norms:
        raise InputError("every image is black", item=item)
    # Rounded once, so that the order of the images does not matter.
    radius = budget.size * len(norms) / fsum(1 / norm for norm in norms)
    return Budget(kind="l2", size=radius, space=budget.space)


def standardized(images: Tensor) -> Tensor:
    """(x - mean) / std per channel with ImageNet's constants; images (..., 3, H, W) in [0, 1]."""
    return (images - _channels(IMAGENET_MEAN, images)) / _channels(IMAGENET_STD, images)


def standardized_dissimilarity(images: Tensor, reference: Tensor) -> Tensor:
    """||x' - x|| / ||x|| after standardization, (B,). Source: Guo et al. 2018, as their released code measures it."""
    return l2_norm((images - reference) / _channels(IMAGENET_STD, images)) / l2_norm(standardized(reference))


def _mean_weight() -> float:
    return sqrt(sum(std**-2 for std in IMAGENET_STD) / 3)


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(3, 1, 1)

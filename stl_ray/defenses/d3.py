"""D3: every patch of an image as a sparse combination of natural patches.

    T(x) = clip( mean over the patches that cover a pixel of  m_p + P_p (x_p - m_p) )

with x_p a patch, m_p its mean in each channel, and P_p the projection onto the few atoms that matching pursuit chose for
it. Source: Moosavi-Dezfooli, Shrivastava and Tuzel 2018 (arXiv 1802.06806): overlapping patches, each denoised by matching
pursuit over a dictionary of natural patches, averaged. There is no published code, and the paper's text was not at hand:
its names for the parameters are the tables' (10K-4: 10,000 atoms, sparsity 4); the patch's side, the stride and how the
mean is treated are choices made here, and the pursuit is the orthogonal one. The randomised form that the paper has against
attackers who know the dictionary is not here.

The atoms chosen are the same in a neighbourhood of almost every image, where T is linear up to the clipping: its
transpose there, with the atoms held, is the exact gradient. A patch that is flat has none (T has a kink there): its mean alone
is differentiated.

`exclude` changes nothing: a training image finds patches of its own among the atoms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from stl_ray.config import Gradient
from stl_ray.defenses.base import Linearised, Pullback, Transformation, require_gradient
from stl_ray.defenses.fitted import FittedOptions
from stl_ray.defenses.matching_pursuit import approximated, matching_pursuit, project
from stl_ray.defenses.patch_dictionary import DictionaryRecipe, PatchDictionary
from stl_ray.defenses.patch_grid import PatchGrid
from stl_ray.defenses.purified import Purified
from stl_ray.errors import ConfigError


class D3Options(FittedOptions):
    """The options of d3."""

    sparsity: int = Field(5, ge=1, description="atoms of the dictionary that a patch is made of, at most")
    stride: int = Field(
        4, ge=1, description="pixels from one patch to the next, at most a patch's side; the paper says only that they overlap"
    )  # fmt: skip
    atoms: int = Field(10_000, ge=1, description="natural patches in the dictionary")
    patch: int = Field(8, ge=2, description="side of a patch in pixels")
    similarity: float = Field(
        0.9, gt=0, le=1, description="largest |cosine| of two atoms: a patch that is nearer to one is passed over"
    )
    classifier: str | None = Field(
        None, description="name of a classifier with weights: patches come from where its saliency map is large, as in the "
        "paper; absent: from everywhere alike"
    )  # fmt: skip

    @property
    def recipe(self) -> DictionaryRecipe:
        """The dictionary."""
        return DictionaryRecipe(
            atoms=self.atoms, side=self.patch, similarity=self.similarity, classifier=self.classifier
        )

    @model_validator(mode="after")
    def _covers(self) -> Self:
        if self.load is None and self.stride > self.patch:
            raise ValueError(
                f"stride: pixels would lie between patches; expected at most patch, {self.patch}; got {self.stride}"
            )
        return self


@dataclass(frozen=True)
class D3(Transformation):
    """Divides, denoises by matching pursuit, and averages.

    Args:
        dictionary: of natural patches.
        sparsity: atoms of a patch, 1 or more.
        stride: between patches, 1 to the patch's side.

    Raises:
        ConfigError: the stride is out of range.
    """

    dictionary: PatchDictionary
    sparsity: int
    stride: int
    name = "d3"
    gradients = ("exact", "bpda")

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.dictionary.side:
            expected = f"1 to {self.dictionary.side}, the side of the dictionary's patches"
            raise ConfigError("stride out of range", item=f"{self.name}.stride", expected=expected, got=self.stride)

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {
            "defense": self.name,
            "dictionary": self.dictionary.digest,
            "sparsity": self.sparsity,
            "stride": self.stride,
        }

    @torch.no_grad()
    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """See `Transformation.purify`."""
        with torch.autocast(images.device.type, enabled=False):
            means, details = self._divided(images)
            denoised = approximated(details, self._atoms(images), self.sparsity)
            return Purified.without_solver(self._averaged(images, means, denoised).clamp(0, 1))

    def linearised(self, gradient: Gradient) -> Linearised:
        """See `Transformation.linearised`; float64 images are transformed in float64, for finite differences."""
        require_gradient(self, gradient)
        return self._linearise if gradient == "exact" else super().linearised(gradient)

    @torch.no_grad()
    def _linearise(self, images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Pullback]:
        grid = self._grid(images)
        with torch.autocast(images.device.type, enabled=False):
            means, details = self._divided(images)
            _, basis = matching_pursuit(details, self._atoms(images), self.sparsity)
            unclipped = self._averaged(images, means, project(details, basis))
        inside = (unclipped >= 0) & (unclipped <= 1)

        @torch.no_grad()
        def pullback(v: Tensor) -> Tensor:
            patches = grid.patches(v * inside / grid.counts(v))
            projected = project(patches.flatten(0, 1).flatten(1), basis).view_as(patches)
            return grid.added(projected + (patches - projected).mean((3, 4), keepdim=True))

        return unclipped.clamp(0, 1), pullback

    def _divided(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The means (B, P, 3, 1, 1) of all patches, and what they have beyond these (B P, 3 side side)."""
        patches = self._grid(images).patches(images)
        # A float64 mean of equal float32 values is that value: what a flat patch has beyond it is 0, and not rounding.
        means = patches.mean((3, 4), keepdim=True, dtype=torch.float64).to(patches.dtype)
        return means, (patches - means).flatten(0, 1).flatten(1)

    def _averaged(self, images: Tensor, means: Tensor, details: Tensor) -> Tensor:
        """The images (B, 3, H, W) of which these are the patches, with the mean where they overlap."""
        grid, side = self._grid(images), self.dictionary.side
        return grid.added(means + details.view(*means.shape[:3], side, side)) / grid.counts(images)

    def _grid(self, images: Tensor) -> PatchGrid:
        height, width = images.shape[2:]
        return PatchGrid(height, width, self.dictionary.side, self.stride)

    def _atoms(self, images: Tensor) -> Tensor:
        return self.dictionary.on(images.device).to(images.dtype)

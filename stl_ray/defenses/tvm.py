"""Total variation minimisation. Source: Guo et al. 2018, section 4.3; their published code for what follows.

Every value is dropped with probability 0.5, independently in every channel, and the image with the least total variation
that agrees with the rest takes its place: weight 0.03, split Bregman iterations of 10 sweeps until they change the image
by 0.01 (`split_bregman`). The paper measures the variation by the norms of whole rows and columns; its code, and so its
figures, by the differences of every pixel. A value that was dropped where it was 0 counts as kept, since their code finds
out what was dropped by comparing images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.config import Gradient
from stl_ray.csc import check_images
from stl_ray.defenses.base import Linearised, Pullback, Transformation, require_gradient
from stl_ray.defenses.options import DefenseOptions
from stl_ray.defenses.purified import Purified
from stl_ray.defenses.split_bregman import Border, SplitBregman

BLACK = 1e-6
"""Values below it are kept whatever was drawn."""


class TvmOptions(DefenseOptions):
    """The options of tvm."""

    drop: float = Field(0.5, ge=0, lt=1, description="probability with which a value is dropped")
    weight: float = Field(
        SplitBregman.weight, gt=0, description="of the total variation, against half the squared error"
    )
    sweeps: int = Field(SplitBregman.sweeps, ge=1, description="Gauss-Seidel sweeps in an iteration")
    tolerance: float = Field(
        SplitBregman.tolerance,
        ge=0,
        description="root mean square change in an iteration, of values in [0, 1], at which an image is done",
    )
    max_iterations: int = Field(
        SplitBregman.max_iterations, ge=1, description="after which an image is done in any case"
    )
    isotropic: bool = Field(
        SplitBregman.isotropic,
        description="one penalty for both differences of a pixel, or the absolute value of each; the published code, whose "
        "closed form for the first is not that of the norm but of a smooth penalty, has true",
    )
    border: Border = Field(
        SplitBregman.border,
        description="dropped pixels of the border are the sum of their neighbours over 4, which darkens them, as in the "
        "published code (reference), or over their number (renormalised)",
    )


@dataclass(frozen=True)
class TotalVariation(Transformation):
    """Drops values at random and fills them in.

    Args:
        options: of the row.
    """

    options: TvmOptions
    name = "tvm"
    randomised = True
    gradients = ("exact", "bpda")  # of the iterations as they were taken

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, **self.options.model_dump()}

    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """See `Transformation.purify`."""
        return Purified.without_solver(self._method.solve(images, self.kept(images, seeds)).clamp_(0, 1))

    def linearised(self, gradient: Gradient) -> Linearised:
        """See `Transformation.linearised`; the images' masks and numbers of iterations are taken as given."""
        require_gradient(self, gradient)
        if gradient == "bpda":
            return super().linearised(gradient)

        def linearise(images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Pullback]:
            restored, pullback = self._method.linearised(images, self.kept(images, seeds))
            clipped = restored.clamp(0, 1)
            return clipped, lambda v: pullback(v * (clipped == restored))

        return linearise

    @property
    def _method(self) -> SplitBregman:
        return SplitBregman(**self.options.model_dump(exclude={"drop"}))

    def kept(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """The values that are not dropped with these seeds: (B, 3, H, W) bool."""
        check_images(images, channels=3, side=1)
        drawn = [torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return (torch.stack(drawn) >= self.options.drop).to(images.device) | (images < BLACK)

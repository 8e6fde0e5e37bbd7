"""STL: the projection onto the quasi-natural space. Source: Sun et al. 2019, section 3."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.config import Gradient
from stl_ray.csc import SolveStatus
from stl_ray.defenses.base import Linearised, Pullback, Transformation, require_gradient, require_route
from stl_ray.defenses.by_autograd import by_autograd
from stl_ray.defenses.options import DefenseOptions
from stl_ray.defenses.purified import Purified
from stl_ray.space import QuasiNaturalSpace, SparseTransformationLayer

CG_STEPS = 30
"""Conjugate gradient steps of the exact gradient: the remaining error is that of the support."""


class StlOptions(DefenseOptions):
    """The options of stl and stl_cluster."""

    space: str | None = Field(None, description="name of the space in spaces; absent: the only one")
    lmbda: float | None = Field(None, gt=0, description="lambda of the projection; absent: the space's own")
    accuracy: Literal["default", "reference", "exact"] = Field(
        "default", description="solver tier: relative error of the projected image about 5e-3, 2e-3, or certified"
    )
    normalization: Literal["clip", "reference"] = Field(
        "clip", description="clip to [0, 1], or divide by the image's maximum as the authors' script does"
    )

    @property
    def requires(self) -> frozenset[str]:
        """A space, and the method of its solver."""
        return frozenset({"space", "solver"})


@dataclass(frozen=True)
class SparseTransformation(Transformation):
    """T(x), with the one dictionary of an unclustered space or that of the image's cluster.

    Args:
        name: the row's name in the registry.
        space: that images are projected onto, at its lambda.
        options: how accurately they are, and how an image is finished.
        method: of the solver.
    """

    name: str
    space: QuasiNaturalSpace
    options: StlOptions
    method: str
    iterative = True
    gradients = ("exact", "bpda")

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {
            "defense": self.name,
            "space": self.space.digest,
            "lmbda": self.space.lmbda,
            "accuracy": self.options.accuracy,
            "normalization": self.options.normalization,
            "method": self.method,
        }

    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """See `Transformation.purify`."""
        projection = self.space.project(
            images,
            accuracy=self.options.accuracy,
            method=self.method,
            normalization=self.options.normalization,
            exclude=exclude,
        )
        routed = self.space.router is not None
        clusters = projection.clusters if routed else torch.full_like(projection.clusters, -1)
        return Purified(
            images=projection.images,
            cluster=clusters.to(torch.int16),
            iterations=projection.iterations.to(torch.int16),
            status=[SolveStatus(status).name.lower() for status in projection.status.tolist()],
            sparsity=projection.sparsity,
        )

    def linearised(self, gradient: Gradient) -> Linearised:
        """See `Transformation.linearised`; every solve starts from the codes of the one before."""
        require_gradient(self, gradient)
        layer = SparseTransformationLayer(
            self.space,
            "exact" if gradient == "exact" else "none",
            self.options.accuracy,
            CG_STEPS,
            method=self.method,
            normalization=self.options.normalization,
            warm_start=True,
        )

        def linearise(images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Pullback]:
            if gradient == "bpda":
                return layer(images), lambda v: v
            return by_autograd(layer, images)

        return linearise

    def certified(self) -> "SparseTransformation":
        """See `Defense.certified`."""
        return replace(self, options=self.options.model_copy(update={"accuracy": "exact"}))

    @property
    def routes(self) -> int:  # type: ignore[override]  # of this space
        """The clusters of the space; see `Defense.routes`."""
        return 0 if self.space.router is None else len(self.space.dictionaries)

    def routed_to(self, route: int) -> "SparseTransformation":
        """T with one cluster's dictionary for every image; see `Defense.routed_to`.

        Raises:
            TensorError: the space has no such cluster.
        """
        require_route(self, route)
        return replace(self, space=self.space.stratum(route))

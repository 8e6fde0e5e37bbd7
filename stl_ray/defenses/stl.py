"""STL: the projection onto the quasi-natural space. Source: Sun et al. 2019, section 3."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stl_ray.config.sections import StlConfig
from stl_ray.csc import SolveStatus
from stl_ray.defenses.base import Defense, Linearised, Pullback, Purified, require_gradient, require_route
from stl_ray.space import Gradient, QuasiNaturalSpace, SparseTransformationLayer

CG_STEPS = 30
"""Conjugate gradient steps of the exact gradient: the remaining error is that of the support."""


@dataclass(frozen=True)
class SparseTransformation(Defense):
    """T(x), with the one dictionary of an unclustered space or that of the image's cluster.

    Args:
        name: the row's name in the registry.
        space: that images are projected onto.
        config: how the projection is solved and finished.
    """

    name: str
    space: QuasiNaturalSpace
    config: StlConfig
    requires = frozenset({"space", "stl"})
    iterative = True
    gradients = ("exact", "bpda")

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, "space": self.space.digest, **self.config.model_dump(mode="json")}

    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """See `Defense.purify`."""
        projection = self.space.project(
            images,
            accuracy=self.config.accuracy,
            method=self.config.method,
            normalization=self.config.normalization,
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
        """See `Defense.linearised`; every solve starts from the codes of the one before."""
        require_gradient(self, gradient)
        layer = SparseTransformationLayer(
            self.space,
            "exact" if gradient == "exact" else "none",
            self.config.accuracy,
            CG_STEPS,
            method=self.config.method,
            normalization=self.config.normalization,
            warm_start=True,
        )

        def linearise(images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Pullback]:
            if gradient == "bpda":
                return layer(images), lambda v: v
            with torch.enable_grad():
                leaf = images.detach().requires_grad_()
                projected = layer(leaf)
            return projected.detach(), lambda v: torch.autograd.grad(projected, leaf, v, retain_graph=True)[0]

        return linearise

    def certified(self) -> "SparseTransformation":
        """See `Defense.certified`."""
        return replace(self, config=self.config.model_copy(update={"accuracy": "exact"}))

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

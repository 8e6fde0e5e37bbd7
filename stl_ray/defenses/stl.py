"""STL: the projection onto the quasi-natural space. Source: Sun et al. 2019, section 3."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stl_ray.config.sections import StlConfig
from stl_ray.csc import SolveStatus
from stl_ray.defenses.base import Defense, Purified
from stl_ray.space import QuasiNaturalSpace


@dataclass(frozen=True)
class SparseTransformation(Defense):
    """T(x), with the one dictionary of an unclustered space or that of the image's stratum.

    Args:
        name: the row's name in the registry.
        space: what images are projected onto.
        config: how the projection is solved and finished.
    """

    name: str
    space: QuasiNaturalSpace
    config: StlConfig

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, "space": self.space.digest, **self.config.model_dump(mode="json")}

    def purify(self, images: Tensor, exclude: Sequence[str] | None = None) -> Purified:
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

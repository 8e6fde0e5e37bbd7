"""No defense: the row that every other one is compared with."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from stl_ray.defenses.base import Transformation
from stl_ray.defenses.purified import Purified


class Undefended(Transformation):
    """Leaves images as they are."""

    name = "none"
    gradients = ("exact", "bpda")  # both are the identity

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name}

    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """See `Transformation.purify`."""
        return Purified.without_solver(images)

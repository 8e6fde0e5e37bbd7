"""The layer for `torch.compile`: called as it is between two graphs, never traced. Loads the compiler when imported."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from stl_ray.space.layer import SparseTransformationLayer


@torch.compiler.disable  # type: ignore[untyped-decorator]
def projected(layer: "SparseTransformationLayer", images: Tensor) -> Tensor:
    """The layer's output for images (B, C, H, W)."""
    return layer.project(images)

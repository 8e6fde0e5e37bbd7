"""The penultimate features of a classifier: what its last linear layer makes the logits of."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from stl_ray.models.prediction import tile_size
from stl_ray.models.protocol import Victim
from stl_ray.tiling import in_tiles


def penultimate(classifier: Victim, images: Tensor) -> Tensor | None:
    """The features (B, C) of images (B, 3, H, W), without a graph; None of a network without such a layer.

    It is the linear layer that torch is asked for last, if the logits are what it answers.
    """
    size = tile_size(images.shape[-2], images.shape[-1], images.device)
    found = True

    def of_tile(tile: Tensor) -> tuple[Tensor]:
        nonlocal found
        with _LastLinear() as last, torch.no_grad():
            logits = classifier.logits(tile)
        if last.inputs is not None and last.inputs.dim() == 2 and torch.equal(last.outputs.to(logits), logits):
            return (last.inputs,)
        found = False
        return (tile.new_zeros(len(tile), 1),)

    (features,) = in_tiles(of_tile, images, size=size)
    return features if found else None


class _LastLinear(TorchFunctionMode):
    """Notes the input and the output of the latest linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: Tensor | None = None
        self.outputs = torch.empty(0)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """`func`, which torch was asked for; see `TorchFunctionMode`."""
        answer = func(*args, **(kwargs or {}))
        if func is F.linear:
            self.inputs = (args[0] if args else dict(kwargs or {})["input"]).detach()
            self.outputs = answer.detach()
        return answer

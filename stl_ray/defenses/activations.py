"""The activations of a network, layer by layer as it runs: whatever torch's functions answer, called by modules or not.

The network stays as it is. What torch does not call by these names, such as a product of matrices, is no layer here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

LAYERS = frozenset((
    "conv2d", "linear", "batch_norm", "instance_norm", "group_norm", "layer_norm",
    "relu", "relu6", "hardtanh", "leaky_relu", "elu", "gelu", "silu", "hardswish", "sigmoid", "tanh",
    "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d",
))  # fmt: skip
"""Names of the functions; with an underscore behind, those that work in place."""


def read_activations(network: nn.Module, images: Tensor, read: Callable[[Tensor], None]) -> None:
    """Run a network and give each layer's activations (B, ...) to `read`, in their order.

    Args:
        network: from images to whatever; a layer that does not keep the images apart, such as one of windows, is left out.
        images: (B, 3, H, W).
        read: what it makes of them is differentiated as far as the network is.
    """
    with _Reading(len(images), read):
        network(images)


class _Reading(TorchFunctionMode):
    """Where it is entered, what the functions of layers answer is read."""

    def __init__(self, images: int, read: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._images = images
        self._read = read

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """`func`, which torch was asked for; see `TorchFunctionMode`."""
        answer = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "").removesuffix("_") in LAYERS:
            activations = answer[0] if isinstance(answer, tuple) else answer
            if len(activations) == self._images:
                self._read(activations.clone())  # the next layer may work in place
        return answer

"""The MobileNetV2 of the shared weights, as somebody's own network: `architecture: benchmarks.common.imagenet_mobilenet:network`.

Source: Sandler et al. 2018, as TensorFlow published it: batch norm is folded into the convolutions, images are in [-1, 1],
and convolutions of stride 2 are padded as TensorFlow's SAME, which is one-sided for even sizes.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from benchmarks.common.images import default_data

WEIGHTS = "weights/imagenet_mobilenet_v2_bnfused.npz"


class MobileNetV2(nn.Module):
    """Images (B, 3, 224, 224) in [0, 1] -> logits (B, 1000) of ImageNet's classes."""

    def __init__(self) -> None:
        super().__init__()
        network = mobilenet_v2()
        for name, module in list(network.named_modules()):
            parent = network.get_submodule(name.rpartition(".")[0])
            if isinstance(module, nn.BatchNorm2d):
                setattr(parent, name.rpartition(".")[2], nn.Identity())
            elif isinstance(module, nn.Conv2d):
                module.bias = nn.Parameter(torch.zeros(module.out_channels))
                if module.stride == (2, 2):
                    module.padding = (0, 0)
                    module.register_forward_pre_hook(_same)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images in [0, 1]."""
        logits: Tensor = self.network(2 * images - 1)
        return logits


def network() -> MobileNetV2:
    """The network with its weights, from the folder of shared data.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    data = default_data()
    if data is None:
        raise FileNotFoundError(f"no folder of shared data with {WEIGHTS}; STL_RAY_DATA names one")
    model = MobileNetV2()
    with np.load(data / WEIGHTS) as file:
        model.network.load_state_dict({name: torch.from_numpy(file[name].astype(np.float32)) for name in file.files})
    return model


def _same(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """TensorFlow's SAME for kernels of 3 and stride 2: the odd pixel of padding goes right and below."""
    (images,) = inputs
    right, below = (1 if size % 2 == 0 else 2 for size in (images.shape[-1], images.shape[-2]))
    return nn.functional.pad(images, (right - 1, 1, below - 1, 1))

"""A classifier of the ten classes of imagenet10 that takes images of any size: `benchmarks.common.ten_classes:ten_classes`.

MobileNetV2 of the shared weights; images are enlarged to the 224 pixels that it was trained at, and it answers among ten of its
thousand classes, as the paper's network of ImageNet-10 has ten.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common.imagenet_mobilenet import MobileNetV2, network

SIZE = 224

CLASSES = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)
"""ImageNet's numbers of the ten classes, in the order of imagenet10's labels: the classes of imagenette."""


class TenClasses(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> logits (B, 10)."""

    def __init__(self, whole: MobileNetV2) -> None:
        super().__init__()
        last = whole.network.classifier[-1]
        kept = nn.Linear(last.in_features, len(CLASSES))
        kept.load_state_dict({name: values[list(CLASSES)] for name, values in last.state_dict().items()})
        whole.network.classifier[-1] = kept
        self.whole = whole

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images in [0, 1]."""
        logits: Tensor = self.whole(F.interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False))
        return logits


def ten_classes() -> TenClasses:
    """The network with its weights.

    Raises:
        FileNotFoundError: there is no folder of shared data.
    """
    return TenClasses(network())

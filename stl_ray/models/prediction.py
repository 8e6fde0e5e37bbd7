"""The class of every image, whatever its batch."""

import torch
from torch import Tensor

from stl_ray.errors import TensorError
from stl_ray.models.protocol import Victim, against, require_victim
from stl_ray.tiling import in_tiles


def tile_size(height: int, width: int, device: torch.device) -> int:
    """Images per tile for a network of any kind: 16 at 32 or 224 pixels a side on CPUs, 512 and 83 there on GPUs.

    A CPU is as fast with few images at a time, and a tile that is not full costs as much as a full one.
    """
    if device.type == "cpu":
        return min(16, max(8, 2**20 // (height * width)))
    return min(512, max(16, 2**22 // (height * width)))


def predict(victim: Victim, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """The class of the largest logit of every image; the same for an image in any batch.

    Args:
        victim: the classifier.
        images: (B, 3, H, W) RGB in [0, 1], B >= 1.
        labels: (B,) of the images, which are held against the number of logits: as an attack on them sees the victim, whose
            class is the label where it refuses an image (`Refusing`). None: the classifier's class alone.

    Returns:
        (B,) int64.

    Raises:
        TensorError: a label is no class; logits are not finite, of NaN the largest would be an arbitrary class; or not a
            victim.
    """
    return _finite(decided(victim, images, labels))


def likeliest(logits: Tensor) -> Tensor:
    """The class (B,) int64 of the largest of the logits (B, n) of every image.

    Raises:
        TensorError: logits are not finite.
    """
    return _finite(_largest(logits))


def _finite(classes: Tensor) -> Tensor:
    if lost := (classes < 0).nonzero()[:, 0].tolist():
        of = f"{len(lost)} of {len(classes)} images"
        raise TensorError(f"the classifier's logits are not finite for {of}", item=f"the first at index {lost[0]}")
    return classes


def decided(victim: Victim, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """`predict`, with -1 for images whose logits are not finite."""
    require_victim(victim)
    if not isinstance(images, Tensor):
        raise TensorError("images of another kind", expected="torch.as_tensor of them", got=type(images).__name__)
    size = tile_size(images.shape[-2], images.shape[-1], images.device)
    if labels is None:
        (logits,) = in_tiles(lambda tile: (victim.logits(tile),), images, size=size)
    else:
        (logits,) = in_tiles(lambda tile, true: (against(victim, true).logits(tile),), images, labels, size=size)
        check_classes(labels, logits.shape[1])
    return _largest(logits)


def _largest(logits: Tensor) -> Tensor:
    return logits.argmax(dim=1).where(logits.isfinite().all(dim=1), -1)


def check_classes(labels: Tensor, classes: int) -> None:
    """Refuse labels that are not classes of the victim.

    Raises:
        TensorError: if a label is negative or too large.
    """
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise TensorError("a label is no class of the victim", expected=f"0 to {classes - 1}", got=int(wrong[0]))

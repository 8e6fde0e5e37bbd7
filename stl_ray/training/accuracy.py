"""How many images a classifier has right."""

from torch import Tensor

from stl_ray.models import Victim, predict, tile_size


def accuracy(victim: Victim, images: Tensor, labels: Tensor) -> float:
    """Share of images whose largest logit is their label's.

    Args:
        victim: in eval mode.
        images: (N, 3, H, W) uint8 RGB on the victim's device, N >= 1.
        labels: (N,) int64 on the same device.
    """
    size = tile_size(*images.shape[-2:])
    correct = 0
    # One tile at a time, because a whole dataset as floats takes four times its room.
    for start in range(0, len(images), size):
        tile = slice(start, start + size)
        correct += int((predict(victim, images[tile].float() / 255) == labels[tile]).sum())
    return correct / len(images)

"""Loss and accuracy of a classifier on images without augmentation: every image once, with any number of workers."""

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor

from stl_ray.config.training import TrainConfig
from stl_ray.defenses import Differentiable, deployed_seeds
from stl_ray.errors import TrainingError
from stl_ray.images import from_uint8, quantize
from stl_ray.models import Classifier
from stl_ray.training.data.loader import Share, validation_batches
from stl_ray.training.data.source import TrainingImages


@torch.no_grad()
def validate(
    classifier: Classifier,
    images: TrainingImages,
    config: TrainConfig,
    share: Share,
    *,
    seed: int,
    input_transform: Differentiable | None = None,
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy in float32, over all ranks; the classifier is in eval mode.

    Args:
        classifier: to validate.
        images: all of the validation images.
        config: batch size and loaders.
        share: the rank.
        seed: the run seed.
        input_transform: the defense that images pass on their way to the classifier, with the draw that is judged.

    Raises:
        TrainingError: the loss is not finite.
    """
    device = classifier.mean.device
    labels = images.labels
    totals = torch.zeros(2, dtype=torch.float64, device=device)
    for batch in validation_batches(images, config, share, pinned=device.type == "cuda"):
        pixels: Tensor = from_uint8(batch.images.to(device, non_blocking=True)).contiguous()
        if input_transform is not None:
            pixels = quantize(input_transform(pixels, deployed_seeds(seed, images.ids(batch.indices))))
        targets = labels[batch.indices].to(device, non_blocking=True)
        logits = classifier(pixels)
        losses = F.cross_entropy(logits, targets, reduction="none")
        totals += torch.stack([losses.sum(), (logits.argmax(dim=1) == targets).sum()]).to(torch.float64)
    if share.world_size > 1:
        torch.distributed.all_reduce(totals)
    loss, accuracy = (totals / len(labels)).tolist()
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise TrainingError("the loss on the validation images is not finite", expected="finite weights", got=loss)
    return loss, accuracy

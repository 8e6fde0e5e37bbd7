"""A classifier that training images are looked at with while a defense is fitted."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stl_ray.config import Experiment
from stl_ray.evaluation.batches import by_size
from stl_ray.pipeline.fitted import looking
from stl_ray.runtime.concurrency import COMPUTE
from stl_ray.runtime.session import device_of
from stl_ray.training.defenses.saliency import saliency_maps


class SaliencyMaps:
    """Maps of 8-bit images by a classifier.

    Args:
        experiment: of the classifier, with Ray resources.
        name: of the classifier.

    Attributes:
        identity: of the classifier.
    """

    def __init__(self, experiment: Experiment, name: str) -> None:
        self._device = device_of(experiment.ray)
        loaded = looking(experiment, name, self._device)
        self._classifier, self.identity = loaded.classifier, loaded.identity

    def of(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float64]]:
        """The (H, W) map of every (H, W, 3) image."""
        maps: dict[int, NDArray[np.float64]] = {}
        with COMPUTE.held():
            for positions, batch in by_size(images, self._device):
                made = saliency_maps(self._classifier, batch).double().cpu().numpy()
                maps.update(zip(positions, made, strict=True))
        return [maps[position] for position in range(len(images))]

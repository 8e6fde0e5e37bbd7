"""Training images whose labels are a classifier's own: images of few classes may train a network of many."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from stl_ray.training.data.source import TrainingImages


@dataclass(frozen=True)
class Relabelled:
    """Training images under a classifier's classes; `TrainingImages`.

    Args:
        images: labelled by the classes of their data set.
        classes: (n,) int64, by class of the data set the class of the classifier. Labels that are none of these stay.
    """

    images: TrainingImages
    classes: Tensor

    @property
    def labels(self) -> Tensor:
        """See `TrainingImages`."""
        labels = self.images.labels
        known = (labels >= 0) & (labels < len(self.classes))
        return self.classes[labels.where(known, 0)].where(known, labels)

    def ids(self, indices: Sequence[int]) -> list[str]:
        """See `TrainingImages`."""
        return self.images.ids(indices)

    def pixels(self, indices: Sequence[int]) -> Tensor:
        """See `TrainingImages`."""
        return self.images.pixels(indices)

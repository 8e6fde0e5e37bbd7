"""Figures of a classifier's training, after every epoch and within one, and the callbacks that receive them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class EpochMetrics:
    """Figures of one epoch over all workers, and the state from which training resumes."""

    epoch: int
    """Epochs finished, from 1."""
    loss: float
    """Mean loss of the epoch's augmented images, each at its step."""
    accuracy: float
    """Share of them that were classified rightly, each at its step; of mixed ones, as the class that has more of them."""
    validation_loss: float | None
    """Mean cross-entropy of the validation images after the epoch, with averaged weights where there are any."""
    validation_accuracy: float | None
    learning_rate: float
    """Of the epoch's last step."""
    seconds: float
    """Of training, without validation."""
    images_per_second: float
    data_wait: float
    """Share of the time in which rank 0 had nothing to train on."""
    _state: dict[str, Tensor] = field(repr=False)

    def row(self) -> dict[str, int | float | None]:
        """The figures by name, JSON-able."""
        return {name: value for name, value in vars(self).items() if name != "_state"}

    def state(self) -> dict[str, Tensor]:
        """Tensors on the CPU by name (see `stl_ray.training.classifier.checkpoint`): the `state` of `train_classifier`."""
        return self._state


@dataclass(frozen=True)
class EpochProgress:
    """Figures within an epoch, as rank 0 sees them."""

    epoch: int
    """From 1."""
    images: int
    """Trained in this epoch, over all ranks."""
    loss: float
    """Mean over the last steps, of this rank's images."""
    accuracy: float
    data_wait: float
    """Share of the epoch's time so far."""


@dataclass(frozen=True)
class Callbacks:
    """Callbacks of a running epoch; every rank calls each of them at the same steps."""

    progress: Callable[[EpochProgress], None] = lambda progress: None
    preempted: Callable[[], bool] = lambda: False
    """Whether a node is about to be taken away; the same answer on all ranks."""
    save: Callable[[dict[str, Tensor]], None] = lambda state: None
    """Receives the state within an epoch, once, when a node is about to be taken away."""

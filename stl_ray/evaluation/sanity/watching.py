"""A victim that notes which items it ever answered wrongly on an attack's way."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from stl_ray.defenses import Defended
from stl_ray.models import Victim


class Watched:
    """As the victim, and `fell` fills with the items that one of its answers was wrong on.

    Args:
        victim: what is watched.
        labels: the classes of the items, by the item as the attack names it in `Looping.loop`, as a string.
    """

    def __init__(self, victim: Defended, labels: Mapping[str, int]) -> None:
        self.victim, self.labels = victim, labels
        self.fell: set[str] = set()

    def logits(self, images: Tensor) -> Tensor:
        """See `Victim`."""
        return self.victim.logits(images)

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """See `Victim`."""
        return self.victim.logits_and_vjp(images, cotangent)

    def loop(self, items: Sequence[str | int]) -> Victim:
        """See `Looping`."""
        return _WatchedLoop(self, self.victim.loop(items), [str(item) for item in items])


class _WatchedLoop:
    def __init__(self, watched: Watched, loop: Victim, items: Sequence[str]) -> None:
        self.watched, self.loop_, self.items = watched, loop, items

    def logits(self, images: Tensor) -> Tensor:
        return self.loop_.logits(images)

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        logits, product = self.loop_.logits_and_vjp(images, cotangent)
        for item, prediction in zip(self.items, logits.argmax(1).tolist(), strict=False):
            if item in self.watched.labels and prediction != self.watched.labels[item]:
                self.watched.fell.add(item)
        return logits, product

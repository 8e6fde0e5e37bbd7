"""The interface of a classifier for attacks: logits, and their vector-Jacobian product with respect to the image."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from stl_ray.errors import TensorError


@runtime_checkable
class Victim(Protocol):
    """A classifier, alone or behind a defense, as attacks and scores see it.

    Images are (B, 3, H, W) float32 RGB in [0, 1]. Every image is treated on its own; tiles of one size give the same
    bits in any batch (`stl_ray.tiling.in_tiles`).
    """

    def logits(self, images: Tensor) -> Tensor:
        """The logits of every class, (B, n), without a graph."""
        ...

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Logits and J^T v, where J is their Jacobian by the image, and v = `cotangent(logits)`.

        For the gradient of a loss, `cotangent` returns the loss's derivative by the logits (cross-entropy:
        softmax(logits) - one_hot(labels)).

        Args:
            images: (B, 3, H, W).
            cotangent: maps the (B, n) logits, cut off from their graph, to a (B, n) cotangent.

        Returns:
            The logits (B, n) and the product (B, 3, H, W), both without a graph. Nothing of the victim changes:
            weights, their gradients and its mode stay as they are.
        """
        ...


@runtime_checkable
class ManyProducts(Protocol):
    """A victim that answers several products at one point cheaper than one after the other."""

    def logits_and_vjps(self, images: Tensor, cotangents: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """As `Victim.logits_and_vjp`, with cotangents (R, B, n) and products (R, B, 3, H, W)."""
        ...


def logits_and_vjps(victim: Victim, images: Tensor, cotangents: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Logits (B, n), and the products (R, B, 3, H, W) of R >= 1 cotangents (R, B, n) at the same images."""
    if isinstance(victim, ManyProducts):
        return victim.logits_and_vjps(images, cotangents)
    logits, first = victim.logits_and_vjp(images, lambda logits: cotangents(logits)[0])
    others = [
        victim.logits_and_vjp(images, lambda logits, row=row: cotangents(logits)[row])[1]  # type: ignore[misc]
        for row in range(1, len(cotangents(logits)))
    ]
    return logits, torch.stack([first, *others])


@runtime_checkable
class Looping(Protocol):
    """A victim that can answer an attack's loop cheaper than call by call, or that draws random numbers by item."""

    def loop(self, items: Sequence[str | int]) -> Victim:
        """The victim for one loop of calls, all on the same B items in the same rows.

        An item's answers depend on its calls in this loop alone. `logits` are those of a cold start; gradients may start
        from where the item's previous call ended.

        Args:
            items: the B items' ids, or seeds made of these, from which random draws derive.
        """
        ...


@runtime_checkable
class Refusing(Protocol):
    """A victim that may refuse an image, beside what it says of it: to attack it, an image has to be accepted too."""

    def against(self, labels: Tensor) -> Victim:
        """The victim for images with these labels (B,) in these rows, or (1,) of any images with that one.

        Its class is the label exactly where the image is refused or the label is its class: where an attack has failed.
        """
        ...


def against(victim: Victim, labels: Tensor) -> Victim:
    """The victim for images with these labels: as it is `Refusing`, or itself."""
    return victim.against(labels) if isinstance(victim, Refusing) else victim


def require_victim(victim: object) -> None:
    """Refuse what has no `logits` and `logits_and_vjp`, such as a bare torch module.

    Raises:
        TensorError: it is not a `Victim`.
    """
    if not isinstance(victim, Victim):
        wrapped = (
            "stl_ray.models.Classifier(module, architecture='mine', class_names=names, mean=(0, 0, 0), std=(1, 1, 1))"
        )
        raise TensorError(
            "not a victim",
            expected=f"logits and logits_and_vjp; of a module on [0, 1] images: {wrapped}.eval()",
            got=type(victim).__name__,
        )


def in_loop(victim: Victim, items: Sequence[str | int]) -> Victim:
    """The victim for one loop over these items: its own `loop`, or itself where it has none."""
    return victim.loop(items) if isinstance(victim, Looping) else victim

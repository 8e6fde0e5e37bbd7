"""A classifier behind a defense, as a `Victim`: an attack that runs on the one runs on the other unchanged.

Verdicts are those of the deployed pipeline, classifier(q8(T(q8(x)))), each from a solve of its own. Gradients pass both
roundings straight through; what they are of T is the mode's affair:

exact   the Jacobian of T, where the defense has one
bpda    the identity, or what `backward` says, in place of it; T itself is applied (Athalye et al. 2018)
none    refused: such a victim is for attacks that need no gradient

A randomised defense is met by expectation over transformation (same source): logits and products are means over
`samples` draws. In a loop the draws come from the item's id, outside one from the image's pixels.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stl_ray.defenses.base import Defense, Linearised, Pullback, deployed, require_gradient
from stl_ray.errors import GradientError, TensorError
from stl_ray.images import quantize
from stl_ray.models import Victim
from stl_ray.seeding import seed_of
from stl_ray.space import Gradient

Backward = Callable[[Tensor, Tensor], Tensor]
"""(images, v) -> what takes the place of J^T v, all (B, 3, H, W)."""


def surrogate(stand_in: Callable[[Tensor], Tensor]) -> Backward:
    """The `backward` of a differentiable stand-in for T, (B, 3, H, W) -> (B, 3, H, W), at the same images."""

    def backward(images: Tensor, v: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = images.detach().requires_grad_()
            return torch.autograd.grad(stand_in(leaf), leaf, v)[0]

    return backward


@dataclass(frozen=True)
class Defended:
    """A defended classifier; a `Victim`.

    Args:
        classifier: behind the defense.
        defense: in front of it.
        gradient: "exact", "bpda" or "none", as above.
        backward: with "bpda", in place of the identity.
        through: the defense that gradients go through, where the attacker supposes another one than verdicts are from
            (another cluster's dictionary, a substitute).
        samples: draws of a randomised defense for every answer.
        seed: the run seed, of those draws.
        rounded: False leaves out both roundings: the float pipeline, whose finite differences are defined.

    Raises:
        GradientError: the defense that gradients go through has no such gradient.
        TensorError: a `backward` without "bpda", or no samples.
    """

    classifier: Victim
    defense: Defense
    gradient: Gradient = "exact"
    backward: Backward | None = None
    through: Defense | None = None
    samples: int = 1
    seed: int = 0
    rounded: bool = True

    def __post_init__(self) -> None:
        if self.gradient != "none":
            require_gradient(self.through or self.defense, self.gradient)
        if self.backward is not None and self.gradient != "bpda":
            raise TensorError("a backward pass of one's own goes with bpda", expected="bpda", got=self.gradient)
        if self.samples < 1:
            raise TensorError("samples out of range", expected="at least 1", got=self.samples)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, n) of the deployed pipeline, every solve from a cold start; see `Victim`."""
        return self.loop(()).logits(images)

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, n), and J^T cotangent(logits) (B, 3, H, W) in the mode of the gradient; see `Victim`.

        Raises:
            GradientError: the mode is "none".
        """
        return self.loop(()).logits_and_vjp(images, cotangent)

    def loop(self, items: Sequence[str | int]) -> "DefendedLoop":
        """The victim for one loop over these items, whose solves start from the previous iterate's codes."""
        return DefendedLoop(self, tuple(map(str, items)))

    def floating(self) -> "Defended":
        """The pipeline without rounding."""
        return replace(self, rounded=False)


class DefendedLoop:
    """A defended classifier in one loop of calls on the same items; made by `Defended.loop`."""

    def __init__(self, victim: Defended, items: tuple[str, ...]) -> None:
        self._victim = victim
        self._items = items
        self._calls = 0
        self._linearised: Linearised | None = None
        self._point: tuple[Tensor, Tensor, Pullback] | None = None  # images, T of them, and the product there

    def logits(self, images: Tensor) -> Tensor:
        """As `Defended.logits`."""
        victim = self._victim
        answers = [
            victim.classifier.logits(
                # What a solve lost has no verdict of its own; black stands for it, which is finite.
                (
                    deployed(victim.defense, images, seeds)
                    if victim.rounded
                    else victim.defense.purify(images, seeds=seeds).images
                ).nan_to_num()
            )
            for seeds in self._draws(images, victim.defense)
        ]
        return _mean(answers)

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """As `Defended.logits_and_vjp`, started where the previous call ended."""
        victim = self._victim
        if victim.gradient == "none":
            raise GradientError("a victim without gradients", expected="an attack that needs none, or another mode")
        rounding = quantize if victim.rounded else _unchanged
        seen = rounding(images.detach())
        logits, products = [], []
        for seeds in self._draws(images, victim.through or victim.defense):
            purified, pullback = self._linearise(seen, seeds)
            answer, v = victim.classifier.logits_and_vjp(rounding(purified), cotangent)
            logits.append(answer)
            products.append(pullback(v) if victim.backward is None else victim.backward(seen, v))
        return _mean(logits), _mean(products)

    def _linearise(self, images: Tensor, seeds: Sequence[int] | None) -> tuple[Tensor, Pullback]:
        """T and its product at these images; the previous call's where they are the same, as in attacks on many classes."""
        if seeds is None and self._point is not None and torch.equal(self._point[0], images):
            return self._point[1:]
        if self._linearised is None:
            self._linearised = (self._victim.through or self._victim.defense).linearised(self._victim.gradient)
        purified, pullback = self._linearised(images, seeds)
        self._point = images, purified, pullback
        return purified, pullback

    def _draws(self, images: Tensor, defense: Defense) -> list[list[int] | None]:
        """The seeds of every draw of this call; one without seeds where nothing is drawn."""
        if not defense.randomised:
            return [None]
        call, self._calls = self._calls, self._calls + 1
        items = self._items or _fingerprints(images)
        if len(items) > len(images):
            raise TensorError("a loop over other items", expected=f"{len(items)} images", got=len(images))
        items = [*items, *["padding"] * (len(images) - len(items))]  # of a tile, behind the items
        victim = self._victim
        return [
            [seed_of(victim.seed, item, f"defense draw {call}.{sample}") for item in items]
            for sample in range(victim.samples)
        ]


def _fingerprints(images: Tensor) -> list[str]:
    return [hashlib.sha256(image.detach().cpu().contiguous().numpy().tobytes()).hexdigest() for image in images]


def _mean(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(list(parts)).mean(dim=0)


def _unchanged(images: Tensor) -> Tensor:
    return images

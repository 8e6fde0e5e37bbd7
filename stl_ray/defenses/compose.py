"""A classifier behind a defense, as a `Victim`: attacks on a classifier run on it unchanged.

Verdicts (`decide`) are those of the deployed pipeline, classifier(q8(T(q8(x)))), each from a solve of its own; an image
whose solve diverged has none. Gradients pass both roundings straight through; `gradient` selects the gradient of T:

exact      the Jacobian of T, where the defense has one
stand_in   the Jacobian of a differentiable approximation of T, where the defense has one; T itself is applied
bpda       the identity in place of the Jacobian; T itself is applied (Athalye et al. 2018)
none       refused: such a victim is for attacks that need no gradient

A randomised defense is attacked by expectation over transformation (same source): logits and products are means over
`samples` draws, seeded in a loop by the item's id, outside one by the image's pixels. A verdict uses one draw, seeded by
the image's id, which no attack sees.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stl_ray.config import Gradient
from stl_ray.defenses.base import (
    NO_VERDICT,
    Decisions,
    Defense,
    Linearised,
    Pullback,
    Purified,
    deployed_seeds,
    require_gradient,
)
from stl_ray.errors import GradientError, TensorError
from stl_ray.images import quantize
from stl_ray.models import Victim, predict
from stl_ray.seeding import seeds_of


@dataclass(frozen=True)
class Defended:
    """A defended classifier; a `DefendedModel`.

    Args:
        classifier: behind the defense.
        defense: in front of it.
        gradient: "exact", "stand_in", "bpda" or "none", as above.
        through: the defense that gradients go through, where the attacker supposes another one than that of the verdicts
            (another cluster's dictionary, a substitute).
        samples: draws of a randomised defense for every answer.
        seed: the run seed, of those draws.
        rounded: False leaves out both roundings: the float pipeline, whose finite differences are defined.

    Raises:
        GradientError: the defense that gradients go through has no such gradient.
        TensorError: no samples.
    """

    classifier: Victim
    defense: Defense
    gradient: Gradient = "exact"
    through: Defense | None = None
    samples: int = 1
    seed: int = 0
    rounded: bool = True

    def __post_init__(self) -> None:
        if self.gradient != "none":
            require_gradient(self.through or self.defense, self.gradient)
        if self.samples < 1:
            raise TensorError("samples out of range", expected="at least 1", got=self.samples)

    def decide(self, images: Tensor, ids: Sequence[str], *, purified: Purified | None = None) -> Decisions:
        """See `DefendedModel`.

        Args:
            images: (B, 3, H, W) float32 in [0, 1], B >= 1.
            ids: of the images.
            purified: the purified images, where they are known from another classifier's verdicts.

        Raises:
            TensorError: logits are not finite.
        """
        purified = self.purify(images, ids) if purified is None else purified
        prediction = predict(self.classifier, self.seen(purified))
        return Decisions(prediction.masked_fill(purified.diverged, NO_VERDICT), purified.status, purified)

    def verdict_logits(self, images: Tensor, ids: Sequence[str]) -> Tensor:
        """Logits (B, n) of which a verdict takes the largest, for the whole batch at once."""
        return self.classifier.logits(self.seen(self.purify(images, ids)))

    def purify(self, images: Tensor, ids: Sequence[str]) -> Purified:
        """The purified images of a verdict, with the draws of these ids."""
        return self.defense.purify(self.rounding(images), seeds=deployed_seeds(self.seed, ids))

    def seen(self, purified: Purified) -> Tensor:
        """The images that the classifier sees; black, which is finite, where a solve diverged."""
        return self.rounding(purified.images).nan_to_num()

    def rounding(self, images: Tensor) -> Tensor:
        """The images rounded to 8 bits, except in the float pipeline."""
        return quantize(images) if self.rounded else images

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
        rounded = victim.rounding(images)
        answers = [
            victim.classifier.logits(victim.seen(victim.defense.purify(rounded, seeds=seeds)))
            for seeds in self._draws(images, victim.defense)
        ]
        return _mean(answers)

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """As `Defended.logits_and_vjp`, started where the previous call ended."""
        victim = self._victim
        if victim.gradient == "none":
            raise GradientError("a victim without gradients", expected="an attack that needs none, or another mode")
        rounded = victim.rounding(images.detach())
        logits, products = [], []
        for seeds in self._draws(images, victim.through or victim.defense):
            purified, pullback = self._linearise(rounded, seeds)
            answer, v = victim.classifier.logits_and_vjp(victim.rounding(purified).nan_to_num(), cotangent)
            logits.append(answer)
            # A solve that diverged has no derivative.
            lost = ~purified.flatten(1).isfinite().all(1)
            products.append(pullback(v).masked_fill(lost[:, None, None, None], 0))
        return _mean(logits), _mean(products)

    def _linearise(self, images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Pullback]:
        """T and its product at these images; the previous call's where they are the same, as in attacks on many classes."""
        defense = self._victim.through or self._victim.defense
        if not defense.randomised and self._point is not None and torch.equal(self._point[0], images):
            return self._point[1:]
        if self._linearised is None:
            self._linearised = defense.linearised(self._victim.gradient)
        purified, pullback = self._linearised(images, seeds)
        self._point = images, purified, pullback
        return purified, pullback

    def _draws(self, images: Tensor, defense: Defense) -> list[list[int]]:
        """The seeds of every draw of this call; a single one, of any seeds, for a deterministic defense."""
        if not defense.randomised:
            return [[0] * len(images)]
        call, self._calls = self._calls, self._calls + 1
        items = self._items or _fingerprints(images)
        if len(items) > len(images):
            raise TensorError("a loop over other items", expected=f"{len(items)} images", got=len(images))
        items = [*items, *["padding"] * (len(images) - len(items))]  # of a tile, behind the items
        victim = self._victim
        return [seeds_of(victim.seed, items, f"attacked draw {call}.{sample}") for sample in range(victim.samples)]


def _fingerprints(images: Tensor) -> list[str]:
    return [hashlib.sha256(image.detach().cpu().contiguous().numpy().tobytes()).hexdigest() for image in images]


def _mean(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(list(parts)).mean(dim=0)

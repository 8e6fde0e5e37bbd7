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

Of a defense that also refuses images, a verdict has the score of its detector, and an attack on known labels sees the two
as one (`Defended.against`).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stl_ray.config import Gradient
from stl_ray.defenses.base import (
    Defense,
    Linearised,
    deployed_seeds,
    gradient_of_view,
    require_gradient,
)
from stl_ray.defenses.decisions import Decisions
from stl_ray.defenses.detector import Detector
from stl_ray.defenses.ensemble import Ensemble
from stl_ray.defenses.joint import joint_logits, joint_logits_and_vjp
from stl_ray.defenses.purified import Purified, record_of
from stl_ray.defenses.views import View, logits_and_vjp, mean_softmax, seeds_of_views
from stl_ray.errors import GradientError, TensorError
from stl_ray.images import quantize
from stl_ray.models import Victim, likeliest, tile_size
from stl_ray.rightness import NO_VERDICT
from stl_ray.seeding import seeds_of
from stl_ray.tiling import in_tiles


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
        detector: of a defense that also refuses images (`Detecting`), calibrated on the classifier.
        labels: the joint victim of an attack on images of these labels, (B,) int64; see `against`.

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
    detector: Detector | None = None
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.gradient != "none":
            require_gradient(self.through or self.defense, self.gradient)
        if self.samples < 1:
            raise TensorError("samples out of range", expected="at least 1", got=self.samples)

    @property
    def bare(self) -> Victim:
        """What stands behind the defense, by itself: of an ensemble whose members have networks, all of these on the image."""
        if isinstance(self.defense, Ensemble) and self.defense.networks:
            return Defended(self.classifier, self.defense.bare())
        return self.classifier

    def decide(self, images: Tensor, ids: Sequence[str], *, views: Sequence[Purified] | None = None) -> Decisions:
        """See `DefendedModel`.

        Args:
            images: (B, 3, H, W) float32 in [0, 1], B >= 1.
            ids: of the images.
            views: the purified images, where they are known from another classifier's verdicts.

        Raises:
            TensorError: logits or scores are not finite.
        """
        views = self.purify(images, ids) if views is None else tuple(views)
        seeds = seeds_of_views(self.defense, deployed_seeds(self.seed, ids))
        record = record_of(views)
        logits = mean_softmax([*map(self._answer, range(len(views)), views, seeds)])
        score = self._scores(images, views)
        return Decisions(
            prediction=likeliest(logits).masked_fill(record.diverged, NO_VERDICT),
            confidence=logits.softmax(1).amax(1).float().masked_fill(record.diverged, 0),
            status=record.status,
            views=tuple(views),
            rejected=(score > 1) & ~record.diverged,  # which has no verdict of any kind
            score=score,
        )

    def verdict_logits(self, images: Tensor, ids: Sequence[str]) -> Tensor:
        """Logits (B, n) of which a verdict takes the largest, for the whole batch at once."""
        seeds = seeds_of_views(self.defense, deployed_seeds(self.seed, ids))
        return mean_softmax(
            [
                self.defense.network(self.classifier, draw, number).logits(self.seen(view))
                for number, (view, draw) in enumerate(zip(self.purify(images, ids), seeds, strict=True))
            ]
        )

    def purify(self, images: Tensor, ids: Sequence[str]) -> tuple[Purified, ...]:
        """The purified images of a verdict, view by view, with the draws of these ids."""
        seeds = seeds_of_views(self.defense, deployed_seeds(self.seed, ids))
        rounded = self.rounding(images)
        return tuple(view.purify(rounded, seeds=draw) for view, draw in zip(self.defense.views, seeds, strict=True))

    def _answer(self, number: int, view: Purified, seeds: Sequence[int]) -> Tensor:
        """Logits (B, n) of the network for one view, in tiles."""

        def of_tile(images: Tensor, rows: Tensor) -> tuple[Tensor]:
            draw = [seeds[row] for row in rows.tolist()]
            return (self.defense.network(self.classifier, draw, number).logits(images),)

        images = self.seen(view)
        size = tile_size(images.shape[-2], images.shape[-1], images.device)
        (logits,) = in_tiles(of_tile, images, torch.arange(len(images)), size=size)
        return logits

    def _scores(self, images: Tensor, views: Sequence[Purified]) -> Tensor:
        """The detector's scores (B,) float32, in tiles; zeros without one."""
        detector = self.detector
        if detector is None:
            return torch.zeros(len(images), device=images.device)
        (view,) = views
        size = tile_size(images.shape[-2], images.shape[-1], images.device)
        (scores,) = in_tiles(lambda *tile: (detector.scores(*tile),), self.rounding(images), self.seen(view), size=size)
        if lost := (~scores.isfinite()).nonzero()[:, 0].tolist():
            of = f"{len(lost)} of {len(scores)} images"
            raise TensorError(f"the detector's scores are not finite for {of}", item=f"the first at index {lost[0]}")
        return scores.float()

    def against(self, labels: Tensor) -> "Defended":
        """The victim of an attack that has to be accepted too: `joint_logits` of the classifier and the detector.

        Itself where there is no detector; see `Refusing`.
        """
        return self if self.detector is None else replace(self, labels=labels)

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
        self._linearised: list[Linearised] = []
        self._point: tuple[Tensor, list[View]] | None = None  # images, and T of them view by view

    def logits(self, images: Tensor) -> Tensor:
        """As `Defended.logits`."""
        victim = self._victim
        defense, rounded = victim.defense, victim.rounding(images)
        answers = []
        for seeds in self._draws(images, defense):
            draws = seeds_of_views(defense, seeds)
            seen = [
                victim.seen(view.purify(rounded, seeds=draw)) for view, draw in zip(defense.views, draws, strict=True)
            ]
            networks = (defense.network(victim.classifier, draw, number) for number, draw in enumerate(draws))
            answer = mean_softmax([network.logits(view) for network, view in zip(networks, seen, strict=True)])
            if victim.detector is not None and victim.labels is not None:
                answer = joint_logits(answer, victim.detector.scores(rounded, *seen), victim.labels)
            answers.append(answer)
        return _mean(answers)

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """As `Defended.logits_and_vjp`, started where the previous call ended."""
        victim = self._victim
        if victim.gradient == "none":
            raise GradientError("a victim without gradients", expected="an attack that needs none, or another mode")
        rounded = victim.rounding(images.detach())
        logits, products = [], []
        for seeds in self._draws(images, victim.through or victim.defense):
            views = self._views(rounded, seeds)
            if victim.detector is None or victim.labels is None:
                answer, product = logits_and_vjp(views, cotangent)
            else:
                (view,) = views
                answer, product = joint_logits_and_vjp(view, rounded, victim.detector, victim.labels, cotangent)
            logits.append(answer)
            products.append(product)
        return _mean(logits), _mean(products)

    def _views(self, images: Tensor, seeds: Sequence[int]) -> "list[View]":
        """T and its product at these images; the previous call's where they are the same, as in attacks on many classes."""
        victim = self._victim
        defense = victim.through or victim.defense
        if not defense.randomised and self._point is not None and torch.equal(self._point[0], images):
            return self._point[1]
        if not self._linearised:
            self._linearised = [view.linearised(gradient_of_view(view, victim.gradient)) for view in defense.views]
        views = []
        for number, draw in enumerate(seeds_of_views(defense, seeds)):
            purified, pullback = self._linearised[number](images, draw)
            network = defense.network(victim.classifier, draw, number)
            # A solve that diverged has no derivative.
            lost = ~purified.flatten(1).isfinite().all(1)
            views.append(View(network, victim.rounding(purified).nan_to_num(), pullback, lost))
        if not defense.randomised:
            self._point = images, views
        return views

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

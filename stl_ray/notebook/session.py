"""What one call works with: the images, the model, and every defense with the model behind it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stl_ray.defenses.look import look
from stl_ray.evaluation import DefendedClassifier
from stl_ray.evaluation.batches import Pixels, by_size
from stl_ray.models import LOOKED_AT, Victim
from stl_ray.notebook.asked import Asked, request_of
from stl_ray.notebook.detectors import shared_with, training_images, with_detector
from stl_ray.notebook.inputs import Images, stored_images
from stl_ray.notebook.model import Model, device_of, looked_at


@dataclass(frozen=True)
class Session:
    """One call of `stl_ray.attack` or `stl_ray.evaluate`, checked.

    Attributes:
        asked: the sections.
        images: that are attacked and scored.
        model: that answers about them.
        defended: by defense, "none" first, the defense with the model behind it.
        victims: by adversarial set, what it is crafted on: the model, alone or behind a defense.
    """

    asked: Asked
    images: Images
    model: Model
    defended: dict[str, DefendedClassifier]
    victims: dict[str, Victim]

    @classmethod
    def of(
        cls,
        model: object,
        images: object,
        labels: object,
        ids: Iterable[str] | None,
        *,
        defenses: Iterable[object],
        attacks: Iterable[object],
        tiers: object = None,
        sanity: str = "quick",
        training: object = None,
        seed: int,
    ) -> "Session":
        """The session of a call; arguments and errors as for `stl_ray.evaluate`."""
        stored = stored_images(images, labels, ids)
        calibrating = None if training is None else training_images(training)
        stored = replace(stored, remarks=stored.remarks + shared_with(calibrating, stored))
        request = request_of(defenses, attacks, tiers, sanity, seed, device_of(model, stored))
        seen = looked_at(model, stored, gradient=request.needs_gradient)
        _, few = next(by_size(stored.pixels[:LOOKED_AT], seen.device))
        for name, defense in request.defenses.items():
            look(defense, {seen.name: seen.victim}, few, item=name)
        defended = {
            name: with_detector(name, DefendedClassifier.of(defense, seen.victim, seen.identity, seed), calibrating)
            for name, defense in request.defenses.items()
        }
        victims = {
            item.name: seen.victim
            if item.victim.defense is None
            else defended[item.victim.defense].victim(item.victim.gradient, item.victim.samples)
            for item in request.asked.attacks
        }
        return cls(request.asked, stored, seen, defended, victims)

    @property
    def remarks(self) -> tuple[str, ...]:
        """On the images and the model, a sentence each."""
        return self.images.remarks + self.model.remarks

    def batches(
        self, pixels: Sequence[Pixels], positions: Sequence[int]
    ) -> Iterator[tuple[list[int], Tensor, Tensor, list[str]]]:
        """Some of the images in batches of one size: positions, images (B, 3, H, W), labels (B,) int64, and ids.

        Args:
            pixels: of all images, clean or attacked.
            positions: of those that are wanted.
        """
        for rows, batch in by_size([pixels[position] for position in positions], self.model.device):
            places = [positions[row] for row in rows]
            labels = torch.from_numpy(self.images.labels[places]).to(self.model.device)
            yield places, batch, labels, [self.images.ids[place] for place in places]

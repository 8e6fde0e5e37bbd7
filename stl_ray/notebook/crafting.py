"""The adversarial sets of some images, crafted by the attacks of the job `attack` at the same budgets."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from stl_ray.attacks import Budget, at_mean, budget_of, make_attack
from stl_ray.config import NamedAttack
from stl_ray.errors import ConfigError
from stl_ray.evaluation.batches import Pixels, by_size, in_order
from stl_ray.images import image_schema, to_uint8
from stl_ray.notebook.adversarial import Adversarial, AdversarialSet
from stl_ray.notebook.model import warn_of
from stl_ray.notebook.progress import Advance, progress_bar
from stl_ray.notebook.session import Session

_OF_IMAGES = ("image", "pixels")


def attack(
    model: object,
    images: object,
    labels: object,
    attacks: Iterable[object],
    *,
    defenses: Iterable[object] = (),
    training: object = None,
    ids: Iterable[str] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Adversarial:
    """Craft adversarial images, in this process, as the job `attack` would: the same images to the last bit.

    An image's result depends on the image, its id and the seed, not on the others. Arguments are those of `stl_ray.evaluate`:
    at least one of `attacks`, and of `defenses` those that their victims name.

    Raises:
        TensorError, GradientError, ConfigError, ArtifactError, DictionaryError, TrainingError: as for `stl_ray.evaluate`.
    """
    session = Session.of(model, images, labels, ids, defenses=defenses, attacks=attacks, training=training, seed=seed)
    if not session.asked.attacks:
        raise ConfigError("nothing to craft", item="attacks", expected="at least one")
    warn_of(session.remarks)
    with progress_bar(len(session.images.ids) * len(session.asked.attacks), progress) as advance:
        return Adversarial(craft(session, advance), session.remarks)


def craft(session: Session, advance: Advance) -> dict[str, AdversarialSet]:
    """Every adversarial set of a session, by name."""
    return {item.name: _crafted(session, item, advance) for item in session.asked.attacks}


def _crafted(session: Session, item: NamedAttack, advance: Advance) -> AdversarialSet:
    method, budget = make_attack(item.attack, item.options, item.engine), _budget(session, item)
    clean, schema = session.images, image_schema("adversarial", session.model.class_names)
    advance(f"attack {item.name}", 0)
    pixels: dict[int, Pixels] = {}
    rows: dict[int, dict[str, Any]] = {}
    for places, images, labels, ids in session.batches(clean.pixels, range(len(clean.ids))):
        result = method(
            session.victims[item.name],
            images,
            labels,
            budget=budget,
            ids=ids,
            seed=session.asked.seed,
            store=item.store,
        )
        stored: Pixels = (
            to_uint8(result.images)
            if item.store == "u8"
            else np.ascontiguousarray(result.images.detach().cpu().permute(0, 2, 3, 1).numpy())
        )
        pixels |= dict(zip(places, stored, strict=True))
        for place, name, label, record in zip(places, ids, labels.tolist(), result.records(), strict=True):
            rows[place] = {"id": name, "label": label, "attack": item.name, **record}
        advance(f"attack {item.name}", len(places))
    fields = [field for field in schema if field.name not in _OF_IMAGES]
    return AdversarialSet(item.name, [pixels[place] for place in sorted(pixels)], in_order(rows, pa.schema(fields)))


def _budget(session: Session, item: NamedAttack) -> Budget:
    budget = budget_of(item)
    if item.budget == "per_image":
        return budget
    return at_mean(budget, (batch for _, batch in by_size(session.images.pixels, "cpu")), "images")

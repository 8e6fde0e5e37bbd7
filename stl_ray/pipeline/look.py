"""A look at every model and defense of a job before any shard, on a few images of a split."""

import warnings
from collections.abc import Mapping

import torch

from stl_ray.config import RayConfig
from stl_ray.defenses import Defense
from stl_ray.defenses.look import look as look_at_defense
from stl_ray.evaluation.batches import by_size
from stl_ray.images import decode
from stl_ray.models import LOOKED_AT, Classifier, Victim, look
from stl_ray.pipeline.batches import STORED_PIXELS, rows_at
from stl_ray.runtime.session import device_of
from stl_ray.store import Dataset


def device_to_look(config: RayConfig) -> str | None:
    """The actors' device; None where the driver has none such, and a model may not run on another."""
    device = device_of(config)
    return None if device == "cuda" and not torch.cuda.is_available() else device


def look_at(
    models: Mapping[str, tuple[Classifier, bool]],
    defenses: Mapping[str, tuple[Defense, Mapping[str, Victim]]],
    clean: Dataset,
    device: str,
) -> dict[str, str]:
    """Warn of what works and may not be meant, by `stl_ray.models.look`; as a job's `remark`, if there is any.

    Args:
        models: by name, each with whether its gradient is needed.
        defenses: by name, each with the classifiers that stand behind it, by theirs.
        clean: the images, of which the first of one size are looked with.
        device: of the models.

    Raises:
        TensorError: a model's answers cannot be used.
        GradientError: its gradient cannot, and is needed.
        StlRayError: a defense cannot be used, or not in front of a classifier (`stl_ray.defenses.look`).
    """
    rows = rows_at(clean, range(min(LOOKED_AT, clean.rows)))
    if not rows:
        return {}
    _, images = next(by_size([decode(row["image"]["bytes"], max_pixels=STORED_PIXELS) for row in rows], device))
    remarks = []
    for name, (model, gradient) in models.items():
        remarks += look(model, images, len(model.class_names), item=name, gradient=gradient)
    for name, (defense, behind) in defenses.items():
        look_at_defense(defense, behind, images, item=name)
    for text in remarks:
        warnings.warn(text, UserWarning, stacklevel=3)
    return {"remark": "; ".join(remarks)} if remarks else {}

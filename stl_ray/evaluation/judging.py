"""The decisions of the deployed pipeline on a batch, beside those of the float pipeline: rows of predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stl_ray.defenses import Defended, record_of
from stl_ray.images import quantize
from stl_ray.metrics import psnr

_KINDS = ("", "_float", "_confidence", "_rejected", "_score")
"""Columns of a classifier, by what follows its name."""


def judged(
    models: Mapping[str, Defended], images: Tensor, labels: Sequence[int], ids: Sequence[str], clean: Tensor
) -> list[dict[str, Any]]:
    """Rows of `PREDICTIONS_SCHEMA`, one per image; an image's row does not depend on other images.

    Args:
        models: by column ("vanilla", "retrained"), the classifiers behind one defense; one that is both is asked once.
        images: (B, 3, H, W) float32 in [0, 1], B >= 1, as they are stored.
        labels: of the images.
        ids: of the images.
        clean: (B, 3, H, W), the images that they were made from.

    Raises:
        TensorError: logits are not finite.
    """
    deployed = models["vanilla"]
    views = deployed.purify(images, ids)
    purified = record_of(views)
    # The float pipeline sees an exactly stored image, the deployed one its rounding.
    exact = not torch.equal(quantize(images), images)
    unrounded = replace(deployed, rounded=False).purify(images, ids) if exact else views
    columns: dict[str, Tensor] = {}
    for name, model in models.items():
        if name != "vanilla" and model is deployed:
            columns |= {name + kind: columns[f"vanilla{kind}"] for kind in _KINDS}
            continue
        decided = model.decide(images, ids, views=views)
        columns |= {name: decided.prediction, f"{name}_confidence": decided.confidence}
        columns |= {f"{name}_rejected": decided.rejected, f"{name}_score": decided.score}
        unjudged = replace(model, rounded=False, detector=None)
        columns[f"{name}_float"] = unjudged.decide(images, ids, views=unrounded).prediction
    columns |= {"psnr": psnr(quantize(purified.images), clean), "cluster": purified.cluster}
    # Each leaves the device in one piece: image by image, every transfer would wait for other work there.
    figures = {name: values.tolist() for name, values in columns.items()}
    return [
        {
            "id": ids[row],
            "label": labels[row],
            "status": purified.status[row],
            **{name: values[row] for name, values in figures.items()},
        }
        for row in range(len(ids))
    ]

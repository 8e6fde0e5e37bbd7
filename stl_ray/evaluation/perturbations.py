"""A perturbation before a defense, x' - x, and behind it, T(x') - T(x): how large, at which frequencies, and how far apart the
classifier's features are.

The paper's condition 2 asks that the one behind is much smaller (Sun et al. 2019, section 3.1, d of equation 1); its Figure 1
shows the distances of features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from stl_ray.defenses import Defended, record_of
from stl_ray.evaluation.predictions import Cell
from stl_ray.evaluation.shares import Share
from stl_ray.images import quantize
from stl_ray.metrics import dissimilarity, l2_norm
from stl_ray.models import penultimate

MEASURES = ("image_before", "image_behind", "features_before", "features_behind")
SPECTRA = ("spectrum_before", "spectrum_behind")

BINS = 16
"""Of a spectrum, each 1/32 of a cycle per pixel wide; the last one holds the corners too."""

PERTURBATIONS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field(
            "image_before", pa.float32()
        ),  # ||x' - x|| / ||x||; null, as all others, of an image that the set lacks
        pa.field(
            "image_behind", pa.float32()
        ),  # ||T(x') - T(x)|| / ||T(x)||, of what the classifier sees; NaN: diverged
        pa.field(
            "features_before", pa.float32()
        ),  # the same of the classifier's penultimate features, without the defense
        pa.field("features_behind", pa.float32()),  # and behind it; null of a network that has none
        pa.field("spectrum_before", pa.list_(pa.float32(), BINS)),  # parts of image_before ** 2 by spatial frequency
        pa.field("spectrum_behind", pa.list_(pa.float32(), BINS)),
        pa.field("cluster", pa.int16()),  # of the dictionary for x'; -1: none
        pa.field("clean_cluster", pa.int16()),  # for x
    ]
)
"""One row for each image of one attack set, behind one defense."""


def perturbations(
    model: Defended, undefended: Defended, images: Tensor, clean: Tensor, ids: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of `PERTURBATIONS_SCHEMA`; an image's row does not depend on other images.

    Args:
        model: a transformation, with the classifier that is deployed behind it.
        undefended: the classifier without a defense.
        images: (B, 3, H, W) float32 in [0, 1], B >= 1, attacked, as they are stored; they are rounded to 8 bits, as for a verdict.
        clean: (B, 3, H, W), the images that they were made from.
        ids: of the images.
    """
    images = undefended.rounding(images)
    behind, clean_behind = (record_of(model.purify(batch, ids)) for batch in (images, clean))
    seen, clean_seen = quantize(behind.images), quantize(clean_behind.images)
    columns = {
        "image_before": dissimilarity(images, clean),
        "image_behind": dissimilarity(seen, clean_seen),
        "features_before": _apart(undefended, images, clean),
        "features_behind": _apart(model, seen, clean_seen),
        "spectrum_before": spectrum(images - clean, clean),
        "spectrum_behind": spectrum(seen - clean_seen, clean_seen),
        "cluster": behind.cluster,
        "clean_cluster": clean_behind.cluster,
    }
    figures = {key: [None] * len(ids) if values is None else values.tolist() for key, values in columns.items()}
    return [{"id": ids[row], **{key: values[row] for key, values in figures.items()}} for row in range(len(ids))]


def perturbation_scores(tables: Mapping[Cell, pa.Table]) -> list[dict[str, Any]]:
    """For every defense and attack set, how perturbations were before and behind it: a part of scores.json.

    Args:
        tables: of `PERTURBATIONS_SCHEMA`, by defense and attack set.
    """
    return [_summary(*cell, table.to_pylist()) for cell, table in tables.items()]


def _summary(defense: str, attack: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = [row for row in rows if _finite(row["image_before"]) and _finite(row["image_behind"])]
    smaller = np.array([row["image_behind"] < row["image_before"] for row in rows], bool)
    routed = [row for row in rows if row["clean_cluster"] >= 0]
    kept = np.array([row["cluster"] == row["clean_cluster"] for row in routed], bool)
    return {
        "defense": defense,
        "attack": attack,
        "images": len(rows),
        **{key: _quartiles([row[key] for row in rows]) for key in MEASURES},
        "smaller": _share(smaller),
        "cluster_kept": _share(kept),
        **{key: np.mean([row[key] for row in rows], axis=0).tolist() if rows else None for key in SPECTRA},
    }


def _quartiles(values: Sequence[float | None]) -> list[float] | None:
    there = [value for value in values if value is not None and _finite(value)]
    return np.quantile(there, (0.25, 0.5, 0.75)).tolist() if there else None


def _finite(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def _share(chosen: np.ndarray) -> dict[str, Any] | None:
    share = Share.of(chosen)
    return None if share is None else asdict(share)


def spectrum(differences: Tensor, reference: Tensor) -> Tensor:
    """The squared length of differences over that of the references, by spatial frequency.

    Args:
        differences: (B, 3, H, W).
        reference: (B, 3, H, W); a black one gives zeros.

    Returns:
        (B, BINS): the sum of a row is ||difference||^2 / ||reference||^2 (Parseval); bin k has the frequencies from k / 32 of a
        cycle per pixel, as lengths of the vector of both.
    """
    height, width = differences.shape[-2:]
    vertical, horizontal = (torch.fft.fftfreq(side, dtype=torch.float64) for side in (height, width))
    radius = (vertical[:, None] ** 2 + horizontal**2).sqrt()
    bins = (radius * 2 * BINS).long().clamp(max=BINS - 1).flatten()
    rows = []
    for difference, image in zip(differences.double(), reference.double(), strict=True):
        # One by one: what a transform of a batch rounds depends on the batch.
        # Added up on the CPU: on a GPU the order of the additions varies.
        power = torch.fft.fft2(difference).abs().square().sum(0).flatten().cpu() / (height * width)
        sums = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, power)
        length = float(image.square().sum())
        rows.append(sums / length if length > 0 else sums.zero_())
    return torch.stack(rows)


def _apart(model: Defended, images: Tensor, clean: Tensor) -> Tensor | None:
    """||f' - f|| / ||f|| of penultimate features (B,) of what the classifier sees."""
    found = penultimate(model.classifier, images), penultimate(model.classifier, clean)
    if found[0] is None or found[1] is None:
        return None
    attacked, reference = (features.double() for features in found if features is not None)
    return (l2_norm(attacked - reference) / l2_norm(reference)).nan_to_num(posinf=torch.inf)

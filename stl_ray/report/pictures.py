"""The pictures: filters, the images of every cluster, the gallery. Arrays and PNG bytes in, a figure out."""

import io
from collections.abc import Sequence
from math import ceil, sqrt
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from stl_ray.report.lettering import HEADING, class_in_figure, for_figure
from stl_ray.report.names import attack_label, defense_label, unique
from stl_ray.report.records import GalleryRow

MAX_CLUSTERS = 19  # panels of the atlas, beside the universal one
COLUMNS = 8  # images beside each other in the gallery
SIDE, GAP, BELOW, LEFT = 1.1, 0.06, 0.32, 0.32  # of the gallery, in inches: an image, and the room around it
RIGHT, WRONG = "#00694d", "#b34700"
REFUSED = "refused"  # in the place of a class

Array = np.ndarray[Any, Any]


def filter_mosaic(filters: Array) -> Array:
    """Filters (K, C, S, S) as one RGB image in [0, 1], near-square, one white pixel between tiles.

    Every filter is shown about mid-grey and scaled by its own largest absolute value. C is 1 or 3.
    """
    peak = np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    tiles = 0.5 + 0.5 * filters / np.where(peak > 0, peak, 1)
    return mosaic(np.repeat(tiles, 3, axis=1) if filters.shape[1] == 1 else tiles)


def mosaic(tiles: Array) -> Array:
    """RGB tiles (K, 3, S, S) in [0, 1] as one near-square image, one white pixel between them."""
    count, side = len(tiles), tiles.shape[-1]
    columns = ceil(sqrt(count))
    rows = ceil(count / columns)
    image = np.ones((rows * (side + 1) + 1, columns * (side + 1) + 1, 3))
    for number, tile in enumerate(tiles):
        top, left = (1 + (side + 1) * index for index in divmod(number, columns))
        image[top : top + side, left : left + side] = tile.transpose(1, 2, 0)
    return image


def filter_atlas(universal: Array, clusters: Array, sizes: Sequence[int]) -> Figure:
    """The universal dictionary and up to MAX_CLUSTERS clusters' dictionaries.

    Args:
        universal: (K, C, S, S).
        clusters: (M, K, C, S, S).
        sizes: training images per cluster, or empty.
    """
    panels = [("universal", universal)]
    panels += [(_cluster(number, sizes), filters) for number, filters in enumerate(clusters[:MAX_CLUSTERS])]
    columns = min(len(panels), 5)
    rows = ceil(len(panels) / columns)
    figure = Figure(figsize=(1.9 * columns, 2.15 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (title, filters) in zip(axes, panels, strict=False):
        ax.imshow(filter_mosaic(filters), interpolation="nearest")
        ax.set_title(title)
    for ax in axes:
        ax.set_axis_off()
    return figure


def cluster_atlas(clusters: Array, samples: Array, sizes: Sequence[int]) -> Figure:
    """The filters of up to MAX_CLUSTERS clusters, each beside images of its cluster; two clusters a line.

    Args:
        clusters: (M, K, C, S, S).
        samples: (M, n, 3, s, s) uint8.
        sizes: training images per cluster, or empty.
    """
    shown = min(len(clusters), MAX_CLUSTERS)
    columns = min(shown, 2)
    rows = ceil(shown / columns)
    figure = Figure(figsize=(4.2 * columns, 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, 2 * columns, squeeze=False).reshape(-1, 2)
    for number, (left, right) in enumerate(axes[:shown]):
        left.imshow(filter_mosaic(clusters[number]), interpolation="nearest")
        left.set_title(_cluster(number, sizes))
        right.imshow(mosaic(samples[number] / 255), interpolation="nearest")
    for ax in axes.flat:
        ax.set_axis_off()
    return figure


def _cluster(number: int, sizes: Sequence[int]) -> str:
    return f"cluster {number} ({sizes[number]} images)" if number < len(sizes) else f"cluster {number}"


def gallery(rows: Sequence[GalleryRow], class_names: tuple[str, ...]) -> Figure:
    """One attack's images, a column each: adversarial, purified by each defense, clean; with the predicted classes.

    What is said of an attacked image is green with a tick where it is right, else orange with a cross. More than COLUMNS
    images go on in a further strip below.
    """
    ids, defenses = unique(row.id for row in rows), unique(row.defense for row in rows)
    by_key = {(row.id, row.defense): row for row in rows}
    any_of = {row.id: row for row in rows}
    headings = [attack_label(rows[0].attack), *map(defense_label, defenses), "Clean"]
    lines = [for_figure(heading, HEADING) for heading in headings]
    columns, strips = min(len(ids), COLUMNS), ceil(len(ids) / COLUMNS)
    figure, axes = _grid(strips * len(lines), columns)
    for ax in axes.flat:
        ax.set_axis_off()
    for line, heading in enumerate(lines * strips):
        axes[line, 0].text(
            -GAP, 0.5, heading, transform=axes[line, 0].transAxes, rotation=90, ha="right", va="center",
            fontweight="bold",
        )  # fmt: skip
    for number, identifier in enumerate(ids):
        strip, column = divmod(number, COLUMNS)
        first, *middle, last = axes[strip * len(lines) : (strip + 1) * len(lines), column]
        row = any_of[identifier]
        _show(first, row.adversarial, class_in_figure(row.pred_before, class_names), right=row.right_before)
        for ax, defense in zip(middle, defenses, strict=True):
            if (identifier, defense) in by_key:
                purified = by_key[identifier, defense]
                said = REFUSED if purified.refused_after else class_in_figure(purified.pred_after, class_names)
                _show(ax, purified.purified, said, right=purified.right_after)
        _show(last, row.clean, class_in_figure(row.label, class_names))
    return figure


def mark(right: bool) -> str:
    """The sign in front of what is said of an image."""
    return "✓" if right else "✗"


def _grid(rows: int, columns: int) -> tuple[Figure, Array]:
    """The places of the images. They are fixed: where names had a say, long ones would leave the images no room."""
    width, height = LEFT + columns * (SIDE + GAP), GAP + rows * (SIDE + BELOW)
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(
        rows, columns, squeeze=False, gridspec_kw={
            "left": LEFT / width, "right": 1 - GAP / width, "top": 1 - GAP / height, "bottom": BELOW / height,
            "wspace": GAP / SIDE, "hspace": BELOW / SIDE,
        },
    )  # fmt: skip
    return figure, axes


def _show(axes: Axes, png: bytes, said: str, *, right: bool | None = None) -> None:
    """An image with what is said of it below; None: the truth."""
    with Image.open(io.BytesIO(png)) as image:
        axes.imshow(np.asarray(image.convert("RGB")), interpolation="nearest")
    text, colour = (said, "black") if right is None else (f"{mark(right)} {said}", RIGHT if right else WRONG)
    axes.text(0.5, -0.04, text, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=colour)

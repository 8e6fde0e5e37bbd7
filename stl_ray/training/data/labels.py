"""Checks of labels against a classifier's classes, and the number of images of each class."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stl_ray.errors import TrainingError


def validate_labels(labels: Tensor, ids: Callable[[Sequence[int]], list[str]], class_names: Sequence[str]) -> None:
    """Refuse labels that are not indices of a class.

    Args:
        labels: (N,) int64.
        ids: gives the ids of the images at some indices.
        class_names: the classes.

    Raises:
        TrainingError: there is no image, an image has no label (-1), or a label is not below the number of classes.
    """
    classes = len(class_names)
    if len(labels) == 0:
        raise TrainingError("training needs images, each with an id and a label", got="none")
    for text, wrong in (("no label", labels < 0), ("a label that is not a class", labels >= classes)):
        if wrong.any():
            first = int(wrong.nonzero()[0])
            raise TrainingError(
                f"{int(wrong.sum())} of {len(labels)} images have {text}",
                item=ids([first])[0],
                expected=f"0 to {classes - 1} ({classes} classes)",
                got=int(labels[first]),
            )


def class_counts(labels: Tensor, class_names: Sequence[str]) -> list[int]:
    """The number of images of every class, in the order of the classes; other labels are left out."""
    fitting = labels[(labels >= 0) & (labels < len(class_names))]
    counts: list[int] = torch.bincount(fitting, minlength=len(class_names)).tolist()
    return counts


def balance(counts: Sequence[int], class_names: Sequence[str]) -> str:
    """The images per class in one line, with a warning where classes are empty or unbalanced."""
    least, most = min(counts), max(counts)
    text = f"{sum(counts)} images of {len(counts)} classes, " + (
        f"{most} each" if least == most else f"{least} to {most} each"
    )
    if least == 0:
        empty = [name for name, count in zip(class_names, counts, strict=True) if not count]
        return f"{text}; WARNING: no image of {', '.join(empty[:5])}" + (
            f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        )
    return f"{text}; WARNING: unbalanced" if most > 2 * least else text

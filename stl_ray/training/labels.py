"""Labels that a classifier with given classes can be trained on."""

from collections.abc import Sequence

from torch import Tensor

from stl_ray.errors import TrainingError


def validate_labels(labels: Tensor, ids: Sequence[str], class_names: Sequence[str]) -> None:
    """Refuse labels that are not indices of a class.

    Args:
        labels: (N,) int64.
        ids: the N image ids.
        class_names: the classes.

    Raises:
        TrainingError: there is no image, an image has no label (-1), or a label is not below the number of classes.
    """
    classes = len(class_names)
    if not len(labels) == len(ids) > 0:
        raise TrainingError("training needs images, each with an id and a label", got=f"{len(labels)} and {len(ids)}")
    for text, wrong in (("no label", labels < 0), ("a label that is not a class", labels >= classes)):
        if wrong.any():
            first = int(wrong.nonzero()[0])
            raise TrainingError(
                f"{int(wrong.sum())} of {len(labels)} images have {text}",
                item=ids[first],
                expected=f"0 to {classes - 1} ({classes} classes)",
                got=int(labels[first]),
            )

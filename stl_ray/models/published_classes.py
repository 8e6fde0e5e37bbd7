"""Whether the classes of published weights, which are ImageNet's, are those of a data set, in the same order.

Names that say nothing of their classes cannot be told from a permutation, and would be scored so.
"""

import re
from collections.abc import Sequence

from stl_ray.errors import ArtifactError
from stl_ray.models import imagenet

_UNKNOWN = 0.05
"""Largest share of names that are worded in another way, as other lists of the classes do with some."""


def require_imagenet(names: Sequence[str], item: str) -> None:
    """Refuse published weights for other classes than ImageNet's 1000, or for another order of them.

    Args:
        names: the classifier's classes, in the order of its logits.
        item: the weights.

    Raises:
        ArtifactError: the number or the order of the classes differ, or the names say nothing of theirs.
    """
    if len(names) != len(imagenet.NAMES):
        expected = f"classes: imagenet, whose {len(imagenet.NAMES)} the weights know"
        raise ArtifactError("the weights know other classes", item=item, expected=expected, got=f"{len(names)} classes")
    unknown = []
    for place, name in enumerate(names):
        found = imagenet.candidates(name)
        if not found:
            unknown.append(name)
        elif place not in found:
            expected = f"class {place} to be {_named_alike(place, name)}"
            raise ArtifactError(
                "the weights know the same classes in another order", item=item, expected=expected, got=name
            )
    if len(unknown) > _UNKNOWN * len(names):
        raise ArtifactError(
            "the weights' classes cannot be compared with the data set's",
            item=item, expected=f"torchvision's names ({', '.join(imagenet.NAMES[:3])}, ...), WordNet's ids or 0 to "
            f"{len(names) - 1}; a file of weights is taken to know the data set's classes",
            got=", ".join(unknown[:3]),
        )  # fmt: skip


def _named_alike(place: int, name: str) -> str:
    """A class by the way of naming that `name` is of, and what reads the classes in this order."""
    if re.fullmatch("[0-9]+", name):
        return f"{place} (class_order: number reads folders so)"
    if name in imagenet.WNIDS:
        return f"{imagenet.WNIDS[place]} (WordNet's ids sorted)"
    return f"{imagenet.NAMES[place]} (torchvision's)"

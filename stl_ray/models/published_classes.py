"""Whether the classes of published weights are those of a data set, in the same order.

torchvision names ImageNet's classes by words. A data set may name them so, by all synonyms (Hugging Face), by WordNet's ids
(the folders of ILSVRC 2012) or by their places. Anything else cannot be told from a permutation, and would be scored so.
"""

import hashlib
import re
from collections.abc import Sequence

from stl_ray.errors import ArtifactError

_WNIDS = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
"""sha256 of the 1000 WordNet ids of ILSVRC 2012 in the order of torchvision's categories, which is sorted, a line each."""

_UNKNOWN = 0.05
"""Largest share of names that are worded in another way, as other lists of the classes do with some."""


def require_same_classes(names: Sequence[str], categories: Sequence[str], item: str) -> None:
    """Refuse weights for other classes than those of the data set, or for another order of them.

    Args:
        names: the data set's classes, in the order of its labels.
        categories: the weights' classes, in the order of their logits.
        item: the weights.

    Raises:
        ArtifactError: the numbers or the orders of the classes differ, or the names say nothing of theirs.
    """
    if len(names) != len(categories):
        raise ArtifactError("the weights know other classes", item=item, expected=len(names), got=len(categories))
    if all(re.fullmatch("[0-9]+", name) for name in names):
        numbers = [int(name) for name in names]
        if sorted(numbers) == list(range(len(names))):
            _require_order(numbers, range(len(names)), "class_order: number reads folders so", item)
            return
    if _digest(sorted(names)) == _WNIDS:
        _require_order(names, sorted(names), "WordNet's ids sorted", item)
        return
    known = set(categories)
    unknown = []
    for number, (ours, theirs) in enumerate(zip(names, categories, strict=True)):
        if _mean_the_same(ours, theirs):
            continue
        if ours in known:
            raise _another_order(number, theirs, ours, "torchvision's", item)
        unknown.append(ours)
    if len(unknown) > _UNKNOWN * len(names):
        raise ArtifactError(
            "the weights' classes cannot be compared with the data set's",
            item=item, expected=f"torchvision's names ({', '.join(categories[:3])}, ...), WordNet's ids or 0 to "
            f"{len(names) - 1}; a file of weights is taken to know the data set's classes",
            got=", ".join(unknown[:3]),
        )  # fmt: skip


def _require_order(names: Sequence[object], wanted: Sequence[object], hint: str, item: str) -> None:
    for number, (ours, theirs) in enumerate(zip(names, wanted, strict=True)):
        if ours != theirs:
            raise _another_order(number, theirs, ours, hint, item)


def _another_order(number: int, theirs: object, ours: object, hint: str, item: str) -> ArtifactError:
    expected = f"class {number} to be {theirs} ({hint})"
    return ArtifactError("the weights know the same classes in another order", item=item, expected=expected, got=ours)


def _mean_the_same(ours: str, theirs: str) -> bool:
    """Whether one name holds all words of the other; synonyms stand behind commas."""
    return _words(theirs) <= _words(ours) or _words(ours.partition(",")[0]) <= _words(theirs)


def _words(name: str) -> set[str]:
    return set(re.findall(r"\w+", name.lower().replace("_", " ")))


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()

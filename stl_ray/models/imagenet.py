"""ImageNet's 1000 classes (ILSVRC 2012), and which of them a name may mean.

`imagenet_classes.txt` has them in the order of every published network's logits, which is that of WordNet's ids. A data set
may name them by these ids, by their places (0 to 999), by torchvision's names or by any of WordNet's words, alone or several
with commas between. Some words are of two classes (crane, maillot, missile): they mean either.
"""

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

_LINES = [
    line.split("\t")
    for line in files(__package__).joinpath("imagenet_classes.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
]

WNIDS = tuple(wnid for wnid, _ in _LINES)
"""WordNet's id of each class, such as n01440764."""

NAMES = tuple(words.partition(",")[0] for _, words in _LINES)
"""torchvision's name of each class, all different."""


def candidates(name: str) -> frozenset[int]:
    """The classes that a name may mean; none where it is no name of ImageNet's."""
    if re.fullmatch("n[0-9]{8}", name):
        return frozenset([WNIDS.index(name)] if name in WNIDS else [])
    if re.fullmatch("[0-9]{1,4}", name):
        return frozenset([int(name)] if int(name) < len(WNIDS) else [])
    known = [_classes()[words] for part in name.split(",") if (words := same_words(part)) in _classes()]
    return frozenset.intersection(*known) if known else frozenset()


def in_order(names: Sequence[str]) -> bool:
    """Whether names are those of all 1000 classes in their order, in any way of naming them."""
    return len(names) == len(WNIDS) and all(place in candidates(name) for place, name in enumerate(names))


def same_words(name: str) -> str:
    """A name's words, whatever stands between them and whatever letters are capitals."""
    return " ".join(re.findall(r"\w+", name.casefold().replace("_", " ")))


@cache
def _classes() -> dict[str, frozenset[int]]:
    """The classes of every word."""
    found: dict[str, set[int]] = {}
    for place, (_, words) in enumerate(_LINES):
        for word in words.split(","):
            found.setdefault(same_words(word), set()).add(place)
    return {word: frozenset(places) for word, places in found.items()}

"""The order of classes that are named by folders or tars: as text, or as whole numbers."""

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

from stl_ray.errors import InputError

Order = Literal["text", "number"]


def ordered(names: Iterable[str], order: Order, item: str) -> list[str]:
    """The names in order.

    Args:
        names: of the classes.
        order: `text`, as torchvision's ImageFolder has them (0, 1, 10, 2), or `number` (0, 1, 2, 10).
        item: the source.

    Raises:
        InputError: by number, and a name is no whole number, or two are the same one (1 and 01).
    """
    names = sorted(names)
    if order == "text":
        return names
    wrong = [name for name in names if not re.fullmatch("[0-9]+", name)]
    if wrong:
        raise InputError("class_order: number, but a class is named otherwise", item=item, got=", ".join(wrong[:3]))
    by_number = sorted(names, key=int)
    twice = [pair for pair in pairwise(by_number) if int(pair[0]) == int(pair[1])]
    if twice:
        raise InputError("class_order: number, but two classes are one number", item=item, got=" and ".join(twice[0]))
    return by_number

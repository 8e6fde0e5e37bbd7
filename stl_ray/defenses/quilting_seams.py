"""Seams of image quilting: which pixels of a patch replace those that are there.

Both seams are minimum cuts of one graph (Guo et al. 2018; Kwatra et al. 2003): the 5 x 5 pixels of the patch, neighbours
joined by an edge each way. The edge from p, which stays old, to q, which turns new, costs sum over channels of
|new(q) - old(p)|; nothing is paid the other way. Pixels that nothing was put on yet are new. They differ in what is old:

    reference   nothing, as in the code that Guo et al. published: it binds no pixel to the old side. The least cut is
                empty, so that a pixel turns new wherever a chain of edges that cost something leads from it to one that
                is new, which on natural images is everywhere: patches are pasted over each other.
    cut         the outermost row and column of the overlap, as the paper's words need it: what is free is a chain of
                pixels, one wide, and dynamic programming along it is exact.

Levels are whole numbers up to 255, so that float32 has every sum exactly; ties stay old, as in Boykov and Kolmogorov's
max-flow, which both papers use: a pixel turns new where every minimum cut says so.
"""

from collections.abc import Callable
from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

SIDE, OVERLAP = 5, 2
"""Of a patch, in pixels."""

Seam = Callable[[Tensor, Tensor, bool, bool], Tensor]
"""(old, new, above, left) -> taken.

old: (..., 3, 25) float32 levels 0 to 255 of what is there; of pixels that nothing was put on, anything.
new: (..., 3, 25) the patch, pixels in C order.
above, left: whether there are patches above and to the left, which the first rows and columns overlap.
taken: (..., 25) bool, the pixels that turn new.
"""


def reference(old: Tensor, new: Tensor, above: bool, left: bool) -> Tensor:
    """Everything that a cut of no cost leaves on the new side; a `Seam`."""
    taken = torch.zeros(SIDE, SIDE, dtype=torch.bool, device=new.device)
    taken[OVERLAP if above else 0 :, OVERLAP if left else 0 :] = True
    old, new = old.reshape(*old.shape[:-1], SIDE, SIDE), new.reshape(*new.shape[:-1], SIDE, SIDE)
    taken = taken.expand(*new.shape[:-3], SIDE, SIDE)
    edges = [
        (a, b, (_shifted(new, b) != _shifted(old, a)).any(-3))
        for axis in (-2, -1)
        for a, b in (((axis, 0), (axis, 1)), ((axis, 1), (axis, 0)))
    ]
    while True:
        grown = taken.clone()
        for start, end, open_ in edges:
            _shifted(grown, start).logical_or_(_shifted(taken, end) & open_)
        if torch.equal(grown, taken):
            return taken.flatten(-2)
        taken = grown


def _shifted(image: Tensor, where: tuple[int, int]) -> Tensor:
    """All pixels but the last (start 0) or the first (start 1) along an axis."""
    axis, start = where
    return image.narrow(axis, start, SIDE - 1)


class _Chain(NamedTuple):
    """The free pixels of a patch in the order of their chain, those that are new, and the edges that end at the chain."""

    free: list[int]
    new: list[int]
    old_edges: list[tuple[int, int, int]]  # (place in the chain, from, to), paid where the free pixel stays old
    new_edges: list[tuple[int, int, int]]  # the same, paid where it turns new


def cut(old: Tensor, new: Tensor, above: bool, left: bool) -> Tensor:
    """The minimum cut that leaves the outermost row and column of the overlap old; a `Seam`."""
    taken = torch.ones(*new.shape[:-2], SIDE * SIDE, dtype=torch.bool, device=new.device)
    if not (above or left):
        return taken
    chain = _chain(above, left)
    stays = _unary(old, new, chain.old_edges, len(chain.free)).unbind(-1)
    turns = _unary(old, new, chain.new_edges, len(chain.free)).unbind(-1)
    first, second = chain.free[:-1], chain.free[1:]
    forth = _cost(old, new, first, second).unbind(-1)  # the first of a pair stays old, the second turns new
    back = _cost(old, new, second, first).unbind(-1)
    # Costs of the best labels of the pixels before a place and at it, with its pixel old and new; then of those behind.
    before = [(stays[0], turns[0])]
    for place in range(1, len(chain.free)):
        (o, n), f, b = before[-1], forth[place - 1], back[place - 1]
        before.append((stays[place] + torch.minimum(o, n + b), turns[place] + torch.minimum(n, o + f)))
    behind = [(torch.zeros_like(stays[0]), torch.zeros_like(stays[0]))]
    for place in range(len(chain.free) - 1, 0, -1):
        o, n = behind[-1][0] + stays[place], behind[-1][1] + turns[place]
        behind.append((torch.minimum(o, n + forth[place - 1]), torch.minimum(n, o + back[place - 1])))
    chosen = [n + nb < o + ob for (o, n), (ob, nb) in zip(before, reversed(behind), strict=True)]
    taken.zero_()
    taken[..., chain.new] = True
    taken[..., chain.free] = torch.stack(chosen, -1)
    return taken


def _cost(old: Tensor, new: Tensor, start: list[int], end: list[int]) -> Tensor:
    """(..., E) costs of the edges from the pixels `start` to the pixels `end`."""
    return (new[..., end] - old[..., start]).abs().sum(-2)


def _unary(old: Tensor, new: Tensor, edges: list[tuple[int, int, int]], count: int) -> Tensor:
    """(..., count) costs of edges, summed by place."""
    places, start, end = (list(column) for column in zip(*edges, strict=True))
    costs = _cost(old, new, start, end)
    sums = costs.new_zeros(*costs.shape[:-1], count)
    return sums.index_add_(-1, torch.tensor(places, device=costs.device), costs)


@cache
def _chain(above: bool, left: bool) -> _Chain:
    last = OVERLAP - 1
    column = [(row, last) for row in range(SIDE - 1, last if above else -1, -1)] if left else []
    row = [(last, column) for column in range(last if left else 0, SIDE)] if above else []
    free = column + row
    new = list(product(range(OVERLAP if above else 0, SIDE), range(OVERLAP if left else 0, SIDE)))
    old_edges, new_edges = [], []
    for place, (y, x) in enumerate(free):
        for pixel in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if pixel in new:
                old_edges.append((place, _flat((y, x)), _flat(pixel)))
            elif pixel not in free and all(0 <= side < SIDE for side in pixel):
                new_edges.append((place, _flat(pixel), _flat((y, x))))
    return _Chain([_flat(pixel) for pixel in free], [_flat(pixel) for pixel in new], old_edges, new_edges)


def _flat(pixel: tuple[int, int]) -> int:
    return pixel[0] * SIDE + pixel[1]

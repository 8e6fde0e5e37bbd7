"""Square: random search by squares, without gradients. Source: Andriushchenko et al. 2020, algorithms 1 to 3.

An image stops as soon as it is misclassified; every image draws its own squares. Most proposals are rejected, and the
next proposal then starts from the same point, so spare slots of a tile hold later proposals
(`stl_ray.attacks.speculation`).
"""

from functools import cache
from math import sqrt

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.attacks.formulations import RestartResult, Restarts
from stl_ray.attacks.geometry import per_image, rescaled
from stl_ray.attacks.losses import margin
from stl_ray.attacks.problem import Problem
from stl_ray.attacks.randomness import uniform
from stl_ray.attacks.speculation import fill_tile

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries
_START = 2**33  # offset of the streams of initial points, disjoint from the streams of proposals


class Square(Restarts):
    """The margin of the logits lowered by squares of one colour (L_inf) or by moving norm between squares (L2)."""

    speculative = False
    needs_gradient = False

    queries: int = Field(5000, ge=1, description="largest number of queries per restart")
    share: float = Field(0.8, gt=0, le=1, description="share of the image in the first square; halved on a schedule")
    restarts: int = Field(1, ge=1, description="largest number of runs; a misclassified image is not restarted")

    @property
    def total_restarts(self) -> int:
        """See `Restarts.total_restarts`."""
        return self.restarts

    def restart(self, problem: Problem, number: Tensor) -> RestartResult:
        """See `Restarts.restart`."""
        best, sides = RestartResult(*problem.tiled(self._initial, number)), self._sides(problem)
        while len(left := (~best.misclassified & (best.queries < self.queries)).nonzero()[:, 0]):
            rows, ahead = fill_tile(left, self.queries - best.queries[left], problem.tile)
            at = best.queries[rows] - 1 + ahead
            here, streams = problem.rows(rows), number[rows] * self.queries + at
            proposed, loss, misclassified = here.tiled(self._propose, best.images[rows], streams, sides[at])
            better = misclassified | (loss > best.loss[rows])
            # The first accepted proposal; later proposals started from an outdated point.
            never = torch.full_like(best.queries, self.queries)
            first = never.scatter_reduce(0, rows, torch.where(better, ahead, self.queries), "amin")
            taken = better & (ahead == first[rows])
            for old, new in zip(best[:3], (proposed, loss, misclassified), strict=True):
                old[rows[taken]] = new[taken]
            spent = ahead <= first[rows]
            best.queries.scatter_add_(0, rows[spent], torch.ones_like(rows[spent]))
        return best

    def _initial(self, tile: Problem, number: Tensor) -> tuple[Tensor, ...]:
        change = _stripes(tile, number) if tile.norm == "linf" else _patches(tile, number)
        images = (tile.images + change).clamp(0, 1)
        logits = tile.victim.logits(images)
        return images, margin(logits, tile.labels), logits.argmax(dim=1) != tile.labels, torch.ones_like(tile.labels)

    def _propose(self, tile: Problem, current: Tensor, stream: Tensor, side: Tensor) -> tuple[Tensor, ...]:
        move = _recoloured if tile.norm == "linf" else _moved
        proposed = move(tile, current, stream, side)
        logits = tile.victim.logits(proposed)
        return proposed, margin(logits, tile.labels), logits.argmax(dim=1) != tile.labels

    def _sides(self, problem: Problem) -> Tensor:
        """Side of the square by the number of the proposal, odd and at least 3 in L2; (queries,) int64."""
        height, width = problem.images.shape[-2:]
        whole = [round(sqrt(self._share(number) * height * width)) for number in range(self.queries)]
        if problem.norm == "l2":
            whole = [max(side, 3) + 1 - max(side, 3) % 2 for side in whole]
        return torch.tensor([min(max(side, 1), height, width) for side in whole], device=problem.images.device)

    def _share(self, at: int) -> float:
        return float(self.share / 2 ** sum(at * 10_000 // self.queries > bound for bound in _HALVINGS))


def _stripes(tile: Problem, number: Tensor) -> Tensor:
    """Vertical stripes of random signs at the full radius."""
    draw = uniform(tile.seeds, _START + number, (3, 1, tile.images.shape[3]))
    return (torch.where(draw < 0.5, -1.0, 1.0) * per_image(tile.radius)).expand_as(tile.images)


def _recoloured(tile: Problem, current: Tensor, stream: Tensor, side: Tensor) -> Tensor:
    """One square per image set to the full radius with random signs per channel, different from the current signs."""
    draw = uniform(tile.seeds, stream, (6,))
    inside = _inside(_window(tile, draw[:, :2], side), side)
    signs = torch.where(draw[:, 2:5] < 0.5, -1.0, 1.0)
    # As in the authors' code, an unchanged square draws one of the seven other sign patterns, which saves a query.
    flips = (1 + (7 * draw[:, 5]).long())[:, None] >> torch.arange(3, device=draw.device) & 1
    proposed = torch.where(inside, _coloured(tile, signs), current)
    unchanged = (proposed == current).flatten(1).all(dim=1)
    if not bool(unchanged.any()):
        return proposed
    signs = torch.where(unchanged[:, None] & flips.bool(), -signs, signs)
    return torch.where(inside, _coloured(tile, signs), current)


def _coloured(tile: Problem, signs: Tensor) -> Tensor:
    """Every image moved by its radius in all pixels, with one sign per channel, (B, 3)."""
    return (tile.images + signs[:, :, None, None] * per_image(tile.radius)).clamp(0, 1)


def _window(tile: Problem, draw: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of every pixel in a random square: rows (B, H) and columns (B, W), from 0 to side - 1 inside."""
    down, across = (
        torch.arange(size, device=draw.device) - (draw[:, axis] * (size - side)).long()[:, None]
        for axis, size in enumerate(tile.images.shape[-2:])
    )
    return down, across


def _inside(window: tuple[Tensor, Tensor], side: Tensor) -> Tensor:
    """The pixels of every square, (B, 1, H, W) bool."""
    down, across = ((at >= 0) & (at < side[:, None]) for at in window)
    return (down[:, :, None] & across[:, None, :])[:, None]


def _patches(tile: Problem, number: Tensor) -> Tensor:
    """A 5 x 5 chessboard of bumps with random signs, on the sphere."""
    height, width = tile.images.shape[-2:]
    side = max(min(height, width) // 5, 1)
    down, across = height // side, width // side
    draw = uniform(tile.seeds, _START + number, (3 * down * across + 1,))
    bump = _bump(side).to(draw)
    bumps = torch.where((draw[:, -1] > 0.5)[:, None, None], bump.T, bump)[:, None, None, :, None, :]
    signs = torch.where(draw[:, :-1] < 0.5, -1.0, 1.0).view(-1, 3, down, 1, across, 1)
    change = torch.zeros_like(tile.images)
    change[:, :, : down * side, : across * side] = (signs * bumps).reshape(len(draw), 3, down * side, across * side)
    return rescaled(change, tile.radius)


def _moved(tile: Problem, current: Tensor, stream: Tensor, side: Tensor) -> Tensor:
    """The norm of one square moved to another square per image, as a bump of random sign."""
    draw = uniform(tile.seeds, stream, (8,))
    window = _window(tile, draw[:, :2], side)
    into, out = _inside(window, side), _inside(_window(tile, draw[:, 2:4], side), side)
    change = current - tile.images
    both = (change * (into | out)).flatten(1).square().sum(dim=1)
    spare = (tile.radius.square() - change.flatten(1).square().sum(dim=1)).clamp(min=0)
    signs = torch.where(draw[:, 4:7] < 0.5, -1.0, 1.0)[:, :, None, None]
    there = change * into
    new = _bumps(window, side, draw[:, 7]) * into * signs + there / (1e-12 + _norms(there))
    new = new / (1e-12 + _norms(new)) * per_image((spare / 3 + both).sqrt())
    change = torch.where(into, new, change.masked_fill(out, 0))
    return (tile.images + rescaled(change, tile.radius)).clamp(0, 1)


def _norms(channels: Tensor) -> Tensor:
    norms: Tensor = channels.square().sum(dim=(2, 3), keepdim=True).sqrt()
    return norms


def _bumps(window: tuple[Tensor, Tensor], side: Tensor, draw: Tensor) -> Tensor:
    """A bump in every window, vertical or horizontal by `draw`, (B, 1, H, W); arbitrary outside the window."""
    down, across = window
    turned = (draw > 0.5)[:, None, None]
    row, place = down[:, :, None].expand(-1, -1, across.shape[1]), across[:, None, :].expand(-1, down.shape[1], -1)
    row, place = torch.where(turned, place, row), torch.where(turned, row, place)
    kinds, kind = torch.unique(side, return_inverse=True)
    most = int(kinds[-1])
    table = torch.zeros(len(kinds), most, most)
    for index, size in enumerate(kinds.tolist()):
        table[index, :size, :size] = _bump(size)
    return table.to(draw)[kind[:, None, None], row.clamp(0, most - 1), place.clamp(0, most - 1)][:, None]


@cache
def _bump(side: int) -> Tensor:
    """Two opposite pyramids, one over the other, norm 1, (side, side)."""
    upper = side // 2
    bump = torch.zeros(side, side)
    if upper:
        bump[:upper] = _pyramid(upper, side)
    bump[upper:] = -_pyramid(side - upper, side)
    norm: Tensor = bump.norm()
    return bump / norm


def _pyramid(height: int, width: int) -> Tensor:
    """The rectangle of the paper's Eq. 2, norm 1."""
    pyramid = torch.zeros(height, width)
    top, left = height // 2, width // 2
    for ring in range(max(top, left) + 1):
        rows = slice(max(top - ring, 0), min(top + ring + 1, height))
        columns = slice(max(left - ring, 0), min(left + ring + 1, width))
        pyramid[rows, columns] += 1 / (ring + 1) ** 2
    norm: Tensor = pyramid.norm()
    return pyramid / norm

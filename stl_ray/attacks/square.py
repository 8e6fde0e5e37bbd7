"""Square: random search by squares, without gradients. Source: Andriushchenko et al. 2020, algorithms 1 to 3.

An image stops as soon as it is beaten; every image draws its own squares.
"""

from math import sqrt

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.attacks.base import Problem
from stl_ray.attacks.families import Attempt, Restarted
from stl_ray.attacks.geometry import column, rescaled
from stl_ray.attacks.losses import check_classes, margin
from stl_ray.attacks.randomness import uniform
from stl_ray.attacks.rounds import State, in_rounds

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries
_START = 2**33  # streams of an attempt's beginning, apart from those of its rounds


class Square(Restarted):
    """The margin of the logits lowered by squares of one colour (L_inf) or by moving norm between squares (L2)."""

    queries: int = Field(5000, ge=1, description="questions to the victim at most, per restart")
    share: float = Field(0.8, gt=0, le=1, description="of the image in the first square; halved on a schedule")
    restarts: int = Field(1, ge=1, description="restarts at most; an image that is beaten is not started again")

    @property
    def attempts(self) -> int:
        """See `Restarted.attempts`."""
        return self.restarts

    def attempt(self, problem: Problem, number: int) -> Attempt:
        """See `Restarted.attempt`."""
        state = in_rounds(
            problem,
            lambda tile: self._start(tile, number),
            lambda tile, state, at: self._step(tile, state, number * self.queries + at, at),
            self.queries - 1,
        )
        return Attempt(state["current"], state["loss"], state["done"], state["queries"])

    def _start(self, tile: Problem, number: int) -> State:
        change = _stripes(tile, number) if tile.norm == "linf" else _patches(tile, number)
        current = (tile.images + change).clamp(0, 1)
        logits = tile.victim.logits(current)
        check_classes(tile.labels, logits.shape[1])
        return {
            "current": current,
            "loss": margin(logits, tile.labels),
            "done": logits.argmax(dim=1) != tile.labels,
            "queries": torch.ones_like(tile.labels),
        }

    def _step(self, tile: Problem, state: State, stream: int, at: int) -> State:
        height, width = tile.images.shape[-2:]
        side = round(sqrt(self._share(at) * height * width))
        if tile.norm == "linf":
            proposed = _recoloured(tile, state["current"], stream, min(max(side, 1), height, width))
        else:
            side = max(side, 3)
            proposed = _moved(tile, state["current"], stream, min(side + 1 - side % 2, height, width))
        logits = tile.victim.logits(proposed)
        loss, beaten = margin(logits, tile.labels), logits.argmax(dim=1) != tile.labels
        better = beaten | (loss > state["loss"])
        return {
            "current": torch.where(column(better), proposed, state["current"]),
            "loss": torch.where(better, loss, state["loss"]),
            "done": beaten,
            "queries": state["queries"] + 1,
        }

    def _share(self, at: int) -> float:
        return float(self.share / 2 ** sum(at * 10_000 // self.queries > bound for bound in _HALVINGS))


def _stripes(tile: Problem, number: int) -> Tensor:
    """Vertical stripes of the full radius."""
    draw = uniform(tile.seeds, _START + number, (3, 1, tile.images.shape[3]))
    return (torch.where(draw < 0.5, -1.0, 1.0) * column(tile.radius)).expand_as(tile.images)


def _recoloured(tile: Problem, current: Tensor, stream: int, side: int) -> Tensor:
    """One square of every image set to the full radius, in random colours."""
    draw = uniform(tile.seeds, stream, (5,))
    rows, columns = _window(tile, draw[:, :2], side)
    signs = torch.where(draw[:, 2:] < 0.5, -1.0, 1.0)[:, :, None, None] * column(tile.radius)
    proposed = (tile.images + signs).clamp(0, 1)
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], proposed, current)


def _window(tile: Problem, draw: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The rows and columns of a random square of every image, (B, H) and (B, W) bool."""
    masks = []
    for axis, size in enumerate(tile.images.shape[-2:]):
        start = (draw[:, axis] * (size - side)).long()[:, None]
        at = torch.arange(size, device=draw.device)[None]
        masks.append((at >= start) & (at < start + side))
    return masks[0], masks[1]


def _patches(tile: Problem, number: int) -> Tensor:
    """A five by five chessboard of bumps with random signs, on the sphere."""
    height, width = tile.images.shape[-2:]
    side = max(min(height, width) // 5, 1)
    down, across = height // side, width // side
    draw = uniform(tile.seeds, _START + number, (3 * down * across + 1,))
    bump = _bump(side, draw[:, -1])[:, None, None, :, None, :]
    signs = torch.where(draw[:, :-1] < 0.5, -1.0, 1.0).view(-1, 3, down, 1, across, 1)
    change = torch.zeros_like(tile.images)
    change[:, :, : down * side, : across * side] = (signs * bump).reshape(len(draw), 3, down * side, across * side)
    return rescaled(change, tile.radius)


def _moved(tile: Problem, current: Tensor, stream: int, side: int) -> Tensor:
    """The norm of one square of every image taken to another, with a bump of random sign."""
    draw = uniform(tile.seeds, stream, (8,))
    into, out = (
        (rows[:, :, None] & columns[:, None, :])[:, None]
        for rows, columns in (_window(tile, draw[:, :2], side), _window(tile, draw[:, 2:4], side))
    )
    change = current - tile.images
    both = (change * (into | out)).flatten(1).square().sum(dim=1)
    spare = (tile.radius.square() - change.flatten(1).square().sum(dim=1)).clamp(min=0)
    count = len(change)
    window = change.masked_select(into).view(count, 3, side, side)
    signs = torch.where(draw[:, 4:7] < 0.5, -1.0, 1.0)[:, :, None, None]
    new = _bump(side, draw[:, 7])[:, None] * signs + window / (1e-12 + _norms(window))
    new = new / (1e-12 + _norms(new)) * column((spare / 3 + both).sqrt())
    change = change.masked_fill(out, 0).masked_scatter(into.expand_as(change), new)
    return (tile.images + rescaled(change, tile.radius)).clamp(0, 1)


def _norms(windows: Tensor) -> Tensor:
    squares: Tensor = windows.square().sum(dim=(2, 3), keepdim=True)
    norms: Tensor = squares.sqrt()
    return norms


def _bump(side: int, draw: Tensor) -> Tensor:
    """Two opposite pyramids of norm 1 beside each other or one over the other as `draw` says, (B, side, side)."""
    upper = side // 2
    bump = torch.zeros(side, side, device=draw.device)
    if upper:
        bump[:upper] = _pyramid(upper, side).to(draw.device)
    bump[upper:] = -_pyramid(side - upper, side).to(draw.device)
    bump = bump / bump.norm()
    return torch.where((draw > 0.5)[:, None, None], bump.T, bump)


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

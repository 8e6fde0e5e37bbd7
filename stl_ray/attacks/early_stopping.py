"""Per-image stopping at the price of the images that are left: rounds of one step over full tiles.

A step sees a full tile whatever is left of the batch, so an image's path does not depend on its batch mates; as images
finish, those that are left move together into fewer tiles.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from stl_ray.attacks.base import Problem

State = dict[str, Tensor]
"""What a method knows of every image, (B, ...) each; `done` (B,) bool says that it has finished."""


def run_until_done(
    problem: Problem, start: Callable[[Problem], State], step: Callable[[Problem, State, int], State], rounds: int
) -> State:
    """Repeat a step until every image is done, or for so many rounds.

    Args:
        problem: the images.
        start: makes the state of a full tile.
        step: (tile, state, number of the round) -> the state after it; images that are done keep theirs.
        rounds: at most.

    Returns:
        The state of every image, (B, ...) each.
    """
    # Half a tile: what is left of the last ones is paid for in full.
    size, total = max(problem.tile // 2, 1), len(problem.images)
    rows = torch.arange(total, device=problem.images.device)
    tiles = [_Tile(problem, part, size) for part in torch.split(rows, size)]
    for tile in tiles:
        tile.state = start(tile.problem)
        tile.state["done"][len(tile.rows) :] = True
    whole = {name: torch.cat([t.state[name][: len(t.rows)] for t in tiles]) for name in tiles[0].state}
    for number in range(rounds):
        left = sum(int((~tile.state["done"]).sum()) for tile in tiles)
        if left == 0:
            break
        if -(-left // size) < len(tiles):
            tiles = _regrouped(problem, whole, tiles, size)
        for tile in tiles:
            done = tile.state["done"]
            if bool(done.all()):
                continue
            after = step(tile.problem, tile.state, number)
            tile.state = {
                name: torch.where(done.view(-1, *[1] * (new.dim() - 1)), tile.state[name], new)
                for name, new in after.items()
            }
    for tile in tiles:
        tile.write(whole)
    return whole


class _Tile:
    """Some rows of the batch, filled up with zeros to a full tile."""

    def __init__(self, problem: Problem, rows: Tensor, size: int) -> None:
        self.rows = rows
        self.problem = problem.of(*(_padded(tensor[rows], size) for tensor in problem.tensors()))
        self.state: State = {}

    def write(self, whole: State) -> None:
        """The state of its rows into that of the batch."""
        for name, values in self.state.items():
            whole[name][self.rows] = values[: len(self.rows)]


def _regrouped(problem: Problem, whole: State, tiles: list[_Tile], size: int) -> list[_Tile]:
    """The rows that are not done, in as few tiles as hold them."""
    for tile in tiles:
        tile.write(whole)
    left = torch.cat([tile.rows[~tile.state["done"][: len(tile.rows)]] for tile in tiles])
    new = [_Tile(problem, part, size) for part in torch.split(left, size)]
    for tile in new:
        tile.state = {name: _padded(values[tile.rows], size) for name, values in whole.items()}
        tile.state["done"][len(tile.rows) :] = True
    return new


def _padded(tensor: Tensor, size: int) -> Tensor:
    missing = size - len(tensor)
    return tensor if missing == 0 else torch.cat([tensor, tensor.new_zeros((missing, *tensor.shape[1:]))])

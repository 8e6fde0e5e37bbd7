"""Early stopping per image: one step after another over full tiles of the images that are not done.

A step always sees a full tile, so the path of an image does not depend on its batch. As images finish, the remaining
images move into fewer tiles, so the cost follows the number of remaining images.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from stl_ray.attacks.problem import Problem
from stl_ray.tiling import filled

State = dict[str, Tensor]
"""State of a method per image, (B, ...) each; `done`, (B,) bool, marks finished images."""


def run_until_done(
    problem: Problem, start: Callable[[Problem], State], step: Callable[[Problem, State, int], State], max_steps: int
) -> State:
    """Repeat a step until every image is done, or `max_steps` times.

    Args:
        problem: the batch.
        start: tile -> initial state of the tile.
        step: (tile, state, number of the step) -> next state; finished images keep their state.
        max_steps: largest number of steps.

    Returns:
        The final state, (B, ...) each.
    """
    # Half a tile, because the last, partly empty tile costs as much as a full one.
    size, total = max(problem.tile // 2, 1), len(problem.images)
    rows = torch.arange(total, device=problem.images.device)
    tiles = [_Tile(problem, part, size) for part in torch.split(rows, size)]
    for tile in tiles:
        tile.state = start(tile.problem.recorded())
        tile.state["done"][len(tile.rows) :] = True
    whole = {name: torch.cat([t.state[name][: len(t.rows)] for t in tiles]) for name in tiles[0].state}
    for number in range(max_steps):
        left = sum(int((~tile.state["done"]).sum()) for tile in tiles)
        if left == 0:
            break
        if -(-left // size) < len(tiles):
            tiles = _regrouped(problem, whole, tiles, size)
        for tile in tiles:
            done = tile.state["done"]
            if bool(done.all()):
                continue
            after = step(tile.problem.recorded(~done), tile.state, number)
            tile.state = {
                name: torch.where(done.view(-1, *[1] * (new.dim() - 1)), tile.state[name], new)
                for name, new in after.items()
            }
    for tile in tiles:
        tile.write(whole)
    return whole


class _Tile:
    """Rows of the batch, filled up to a full tile."""

    def __init__(self, problem: Problem, rows: Tensor, size: int) -> None:
        self.rows = rows
        self.problem = problem.with_tensors(*(filled(tensor[rows], size) for tensor in problem.tensors()))
        self.state: State = {}

    def write(self, whole: State) -> None:
        """Write the state of the rows into the state of the batch."""
        for name, values in self.state.items():
            whole[name][self.rows] = values[: len(self.rows)]


def _regrouped(problem: Problem, whole: State, tiles: list[_Tile], size: int) -> list[_Tile]:
    """The unfinished rows in the smallest number of tiles."""
    for tile in tiles:
        tile.write(whole)
    left = torch.cat([tile.rows[~tile.state["done"][: len(tile.rows)]] for tile in tiles])
    new = [_Tile(problem, part, size) for part in torch.split(left, size)]
    for tile in new:
        tile.state = {name: filled(values[tile.rows], size) for name, values in whole.items()}
        tile.state["done"][len(tile.rows) :] = True
    return new

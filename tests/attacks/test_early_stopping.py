import torch

from stl_ray.attacks.base import Problem
from stl_ray.attacks.early_stopping import run_until_done


def problem(count: int) -> Problem:
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2) / count
    whole = torch.arange(count)
    return Problem(None, images, whole, torch.ones(count), whole, "l2")


def countdown(sizes: list[int]):
    """Image n takes n rounds; whoever is done would be counted on if the driver let it."""

    def start(tile):
        return {"done": tile.labels == 0, "rounds": torch.zeros_like(tile.labels), "seed": tile.seeds.clone()}

    def step(tile, state, number):
        sizes.append(len(tile.images))
        rounds = state["rounds"] + 1
        assert torch.equal(state["seed"][~state["done"]], tile.seeds[~state["done"]])  # rows stay together
        return {"done": rounds >= tile.labels, "rounds": rounds, "seed": state["seed"]}

    return start, step


def test_invariant_every_image_takes_its_own_rounds_in_full_tiles():
    sizes: list[int] = []
    state = run_until_done(problem(27), *countdown(sizes), rounds=1000)
    assert state["rounds"].tolist() == list(range(27))
    assert state["done"].all()
    assert set(sizes) == {8}
    # 26 rounds, and fewer tiles as images finish: 4, 3, 2 and 1 of them.
    assert len(sizes) < 26 * 4 * 0.7


def test_invariant_rounds_are_bounded():
    state = run_until_done(problem(5), *countdown([]), rounds=3)
    assert state["rounds"].tolist() == [0, 1, 2, 3, 3]
    assert state["done"].tolist() == [True] * 4 + [False]

from dataclasses import replace

import torch

from stl_ray.attacks import Budget
from stl_ray.attacks.answers import AnswerRecord
from stl_ray.attacks.early_stopping import run_until_done
from stl_ray.attacks.problem import Problem


def problem(count: int) -> Problem:
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2) / count
    whole = torch.arange(count)
    return Problem(
        victim=None,
        images=images,
        labels=whole,
        radius=torch.ones(count),
        seeds=whole,
        correct=torch.ones(count, dtype=torch.bool),
        budget=Budget(kind="l2", size=1.0),
        store="f32",
        ids=[str(row) for row in range(count)],
        seed=0,
        record=AnswerRecord.of(torch.zeros(len(images), dtype=torch.bool)),
        places=torch.arange(len(images)),
    )


def countdown(sizes: list[int]):
    """Image n takes n steps; a finished image would go on counting if the driver did not freeze its state."""

    def start(tile):
        return {"done": tile.labels == 0, "steps": torch.zeros_like(tile.labels), "seed": tile.seeds.clone()}

    def step(tile, state, number):
        sizes.append(len(tile.images))
        steps = state["steps"] + 1
        assert torch.equal(
            state["seed"][~state["done"]], tile.seeds[~state["done"]]
        )  # state and tile keep the same rows
        return {"done": steps >= tile.labels, "steps": steps, "seed": state["seed"]}

    return start, step


def test_invariant_every_image_takes_its_own_steps_in_full_tiles():
    sizes: list[int] = []
    state = run_until_done(problem(27), *countdown(sizes), max_steps=1000)
    assert state["steps"].tolist() == list(range(27))
    assert state["done"].all()
    assert set(sizes) == {8}
    # 26 steps, and fewer tiles as images finish: 4, 3, 2 and 1 of them.
    assert len(sizes) < 26 * 4 * 0.7


def test_invariant_steps_are_bounded():
    state = run_until_done(problem(5), *countdown([]), max_steps=3)
    assert state["steps"].tolist() == [0, 1, 2, 3, 3]
    assert state["done"].tolist() == [True] * 4 + [False]


def test_identity_answers_to_images_that_are_done_are_not_recorded():
    class Linear:
        def logits(self, images):
            return images.mean(dim=(2, 3))

        def logits_and_vjp(self, images, cotangent):
            return self.logits(images), torch.ones_like(images)

    def step(tile, state, number):
        tile.victim.logits_and_vjp(tile.images, None)
        return countdown([])[1](tile, state, number)

    whole = replace(problem(27), victim=Linear())
    run_until_done(whole, countdown([])[0], step, max_steps=1000)
    assert whole.record.asked.tolist() == whole.record.nonzero.tolist() == list(range(27))

"""Speculative trials in spare slots of a tile: they save passes and change no result."""

from dataclasses import fields

import pytest
import torch

from stl_ray.attacks import AttackResult, Budget, make_attack
from stl_ray.attacks.speculation import fill_tile
from stl_ray.models import predict


def test_identity_spare_slots_go_to_the_next_trials_of_each_row():
    rows, ahead = fill_tile(torch.tensor([3, 5, 9]), torch.tensor([1, 4, 4]), size=8)
    assert rows.tolist() == [3, 5, 9, 5, 9, 5, 9, 5]
    assert ahead.tolist() == [0, 0, 0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(("count", "size"), [(8, 8), (3, 1)])
def test_identity_full_tiles_have_no_spare_slots(count, size):
    rows, ahead = fill_tile(torch.arange(count), torch.full((count,), 9), size)
    assert rows.tolist() == list(range(count))
    assert not ahead.any()


class OneByOne:
    """The victim in batches of one, so that logits do not depend on the position in a tile."""

    def __init__(self, victim):
        self.victim = victim
        self.passes = 0

    def logits(self, images):
        self.passes += 1
        return torch.cat([self.victim.logits(image[None]) for image in images])

    def logits_and_vjp(self, images, cotangent):
        self.passes += 1
        logits = torch.cat([self.victim.logits(image[None]) for image in images])
        parts = [
            self.victim.logits_and_vjp(image[None], lambda _, v=v: v[None])
            for image, v in zip(images, cotangent(logits), strict=True)
        ]
        return logits, torch.cat([product for _, product in parts])


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(
    ("name", "options", "sizes"),
    [
        ("pgd", {"steps": 2, "restarts": 4}, {"l2": 12, "linf": 32 / 255}),
        ("apgd_t", {"steps": 3, "targets": 2, "restarts": 2}, {"l2": 2, "linf": 8 / 255}),
        ("square", {"queries": 40, "restarts": 2}, {"l2": 6, "linf": 16 / 255}),
    ],
)
def test_invariant_speculative_trials_change_no_result(name, options, sizes, norm, victim, images, labels, monkeypatch):
    budget = Budget(kind=norm, size=sizes[norm])
    results, passes = [], []
    rows = slice(0, 24, 5)
    for size in (1, 8):
        monkeypatch.setattr("stl_ray.attacks.problem.tile_size", lambda *_, size=size: size)
        asked = OneByOne(victim)
        ids = [str(index) for index in range(24)][rows]
        results.append(
            make_attack(name, options)(asked, images[rows], labels[rows], budget=budget, ids=ids, seed=0, store="f32")
        )
        passes.append(asked.passes)
    for field in fields(AttackResult):
        first, second = (getattr(result, field.name) for result in results)
        assert torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
    assert 0 < int(results[0].success.sum()) < len(ids)
    assert passes[1] < passes[0] / 3  # 5 images in a tile of 8 leave slots for later trials
    assert torch.equal(results[0].source_pred, predict(victim, results[0].images))

"""Draws of a randomised defense: counted by hand, and the same for an image alone, in a batch and in any order."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from stl_ray.defenses import Defended, Purified, Transformation
from stl_ray.evaluation.draws import DRAWS_SCHEMA, draw_scores, drawn
from stl_ray.rightness import NO_VERDICT
from tests.victims import Linear


def table(*rows: tuple[str, int, list[int]]) -> pa.Table:
    """Rows of (id, label, predictions), the same in both settings."""
    made = [dict(zip(DRAWS_SCHEMA.names, (*row, row[2]), strict=True)) for row in rows]
    return pa.Table.from_pylist(made, schema=DRAWS_SCHEMA)


def test_agrees_with_counts_by_hand():
    found = table(
        ("a", 1, [1, 1, 1]),
        ("b", 1, [1, 1, 0]),  # most are right
        ("c", 1, [0, 0, 1]),  # one is
        ("d", 1, [0, 1, 2]),  # as frequent: the lowest class
        ("e", 0, [NO_VERDICT, NO_VERDICT, 0]),
        ("left out", 1, [0, 0, 0]),
    )
    (score,) = draw_scores({("noise", "set"): found}, scored=["a", "b", "c", "d", "e", "elsewhere"])
    assert (score["setting"], score["defense"], score["attack"], score["draws"]) == ("vanilla", "noise", "set", 3)
    by_draw = np.array([2, 3, 3]) / 5
    assert score["single"] == pytest.approx(by_draw.mean()) and score["spread"] == pytest.approx(by_draw.std(ddof=1))
    assert (score["majority"]["count"], score["every"]["count"], score["every"]["total"]) == (2, 1, 5)


def test_identity_settings_and_one_draw():
    one = table(("a", 1, [1]))
    found = draw_scores({("noise", "clean"): one, ("other", "clean"): one}, scored=["a"], retrained=["other"])
    assert [(row["setting"], row["defense"]) for row in found] == [
        ("vanilla", "noise"),
        ("vanilla", "other"),
        ("retrained", "other"),
    ]
    assert {row["spread"] for row in found} == {None}


@dataclass(frozen=True)
class Noise(Transformation):
    """A tenth of every image, and noise by its seed."""

    name = "noise"
    randomised = True

    def identity(self) -> dict[str, Any]:
        return {"defense": self.name}

    def purify(self, images: Tensor, *, seeds, exclude=None) -> Purified:
        drawn = [torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return Purified.without_solver(0.1 * images + 0.9 * torch.stack(drawn))


def test_invariant_an_image_is_drawn_alike_whatever_its_batch(natural_images):
    images, ids = natural_images[:6, :, 8:24, 8:24], [f"id-{number}" for number in range(6)]
    vanilla, retrained = (
        Defended(
            Linear(torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(seed))), Noise(), "none", seed=4
        )
        for seed in (3, 8)
    )
    models, labels = {"vanilla": vanilla, "retrained": retrained}, [0, 1, 2] * 2
    rows = drawn(models, images, labels, ids, 8)
    alone = [drawn(models, images[n : n + 1], labels[n : n + 1], ids[n : n + 1], 8)[0] for n in range(6)]
    assert rows == alone
    assert any(len(set(row["vanilla"])) > 1 for row in rows)  # the draws differ
    assert any(row["vanilla"] != row["retrained"] for row in rows)
    # The first draws of more are those of fewer, and another run seed draws otherwise.
    assert [row["vanilla"][:3] for row in rows] == [row["vanilla"] for row in drawn(models, images, labels, ids, 3)]
    both = dict.fromkeys(models, replace(vanilla, seed=5))
    others = drawn(both, images, labels, ids, 8)
    assert [row["vanilla"] for row in others] != [row["vanilla"] for row in rows]
    assert all(row["vanilla"] == row["retrained"] for row in others)

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from stl_ray.csc import Dictionary
from stl_ray.csc.learning import Block, LocalBlockPool
from stl_ray.csc.learning.constraint import ConstraintSet
from stl_ray.csc.learning.online import FADING, online_update
from stl_ray.csc.learning.statistics import CodeStatistics
from stl_ray.csc.learning.update import update_filters
from stl_ray.errors import TensorError

Blocks = Callable[..., list[Block]]


def update(pool: LocalBlockPool, filters: Tensor, memory: dict[str, Tensor], iteration: int):
    return online_update(pool, filters, ConstraintSet(), memory, iteration=iteration, lmbda=0.2)


def close(found: dict[str, Tensor], expected: CodeStatistics) -> None:
    for name, tensor in expected.tensors().items():
        assert (found[name] - tensor).abs().max() <= 1e-6 * tensor.abs().max(), name


@pytest.mark.parametrize(
    ("count", "turns"), [(1, [[0], [0]]), (3, [[0, 1, 2], [1, 2, 0]]), (6, [[0, 1, 2, 3], [4, 5, 0, 1]])]
)
def test_invariant_every_block_has_its_turn(
    dictionary: Dictionary, blocks: Blocks, count: int, turns: list[list[int]]
) -> None:
    asked: list[list[int]] = []

    class BlockPool(LocalBlockPool):
        def statistics(self, filters: Tensor, blocks: Sequence[int]) -> list[CodeStatistics]:
            asked.append(list(blocks))
            return super().statistics(filters, blocks)

    pool, filters, memory = BlockPool(blocks(*[1] * count), []), dictionary.filters, {}
    for iteration in range(2):
        filters, _, memory = update(pool, filters, memory, iteration)
    assert asked == turns


def test_identity_the_first_update_is_that_of_its_codes(dictionary: Dictionary, blocks: Blocks) -> None:
    filters, (whole,), pool = dictionary.filters, blocks(8), LocalBlockPool(blocks(2, 3, 2, 1, 4), [])
    found, objective, memory = update(pool, filters, {}, 0)
    expected = whole.statistics(filters)
    close(memory, expected)
    torch.testing.assert_close(found, update_filters(filters, expected, ConstraintSet()), rtol=1e-3, atol=1e-3)
    assert objective == pytest.approx(whole.code(filters).objective / 8, rel=1e-5)


def test_identity_older_codes_fade(dictionary: Dictionary, blocks: Blocks) -> None:
    filters, parts = dictionary.filters, blocks(2, 1, 1, 1, 3)
    pool = LocalBlockPool(parts, [])
    updated, _, memory = update(pool, filters, {}, 0)
    _, objective, memory = update(pool, updated, memory, 1)
    latest = [parts[number].statistics(updated) for number in (4, 0, 1, 2)]
    older = [parts[number].statistics(filters) for number in (0, 1, 2, 3)]
    expected = latest[0]
    for statistics, weight in [(s, 1.0) for s in latest[1:]] + [(s, FADING) for s in older]:
        expected = expected.joined(statistics, weight)
    close(memory, expected)
    assert float(memory["images"]) == pytest.approx(7 + 5 * FADING)
    codings = [parts[number].code(updated) for number in (4, 0, 1, 2)]
    assert objective == pytest.approx(sum(coding.objective for coding in codings) / 7, rel=1e-5)


def test_refuses_codes_that_use_no_filter(dictionary: Dictionary, blocks: Blocks, config) -> None:
    pool = LocalBlockPool(blocks(2, config=config.model_copy(update={"lmbda": 50.0})), [])
    with pytest.raises(TensorError, match="survives lambda"):
        update(pool, dictionary.filters, {}, 0)

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stl_ray.csc import Dictionary
from stl_ray.csc.learning import Block, LocalBlockPool, consensus
from stl_ray.csc.learning.consensus import consensus_update
from stl_ray.csc.learning.constraint import ConstraintSet
from stl_ray.csc.learning.statistics import CodeStatistics
from stl_ray.csc.learning.update import update_filters, weights_of
from stl_ray.errors import TensorError

Blocks = Callable[..., list[Block]]


def together(parts: list[Block], filters: Tensor) -> CodeStatistics:
    first, *others = (part.statistics(filters) for part in parts)
    for other in others:
        first = first.joined(other)
    return first


def gain(parts: list[Block], start: Tensor, found: Tensor) -> float:
    """What the filters gain over the first ones, relative to what three times ten steps of FISTA gain."""
    statistics, best = together(parts, start), start
    for _ in range(3):
        best = update_filters(best, statistics, ConstraintSet())
    before, after, least = (statistics.objective(filters, 0.2) for filters in (start, found, best))
    return (before - after) / (before - least)


@pytest.mark.parametrize("sizes", [(12,), (6, 6), (3, 3, 3, 3), (1, 11), (2, 1, 8, 1)], ids=str)
def test_agrees_with_the_update_for_everyone(
    dictionary: Dictionary, blocks: Blocks, sizes: tuple[int, ...], assert_in_the_set
) -> None:
    """The codes stay; five rounds find most of what there is to find, whatever the blocks."""
    parts = blocks(*sizes)
    agreed, _, memory = consensus_update(LocalBlockPool(parts, []), dictionary.filters, ConstraintSet(), {})
    assert_in_the_set(agreed, ConstraintSet())
    assert {name: tensor.shape for name, tensor in memory.items()} == dict.fromkeys(
        ("local", "multiplier"), (len(sizes), 24, 3, 8, 8)
    )
    assert 0.8 < gain(parts, dictionary.filters, agreed) < 1.05


@pytest.mark.parametrize("sizes", [(12,), (3, 3, 3, 3), (1, 11)], ids=str)
def test_agrees_with_the_update_for_everyone_after_many_rounds(
    dictionary: Dictionary, blocks: Blocks, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consensus, "ROUNDS", 60)
    parts = blocks(*sizes)
    agreed, _, memory = consensus_update(LocalBlockPool(parts, []), dictionary.filters, ConstraintSet(), {})
    assert gain(parts, dictionary.filters, agreed) > 0.98
    # And all blocks have come to agree.
    used = torch.stack([part.code(dictionary.filters).usage for part in parts]).sum(0) > 1
    apart = (memory["local"] - agreed).flatten(2).norm(dim=2)[:, used]
    assert apart.max() < 0.05


@pytest.mark.parametrize("constraint", [ConstraintSet("per_channel"), ConstraintSet("joint", False)], ids=str)
def test_invariant_every_set_is_kept(
    dictionary: Dictionary, blocks: Blocks, config, constraint: ConstraintSet, assert_in_the_set
) -> None:
    filters = constraint.project(dictionary.filters)
    parts = blocks(4, 4, config=config.model_copy(update={"norm": constraint.norm, "zero_mean": constraint.zero_mean}))
    agreed, _, _ = consensus_update(LocalBlockPool(parts, []), filters, constraint, {})
    assert_in_the_set(agreed, constraint)
    statistics = together(parts, filters)
    assert statistics.objective(agreed, 0.2) < statistics.objective(filters, 0.2)


def test_identity_objective_is_the_mean_over_all_images(dictionary: Dictionary, blocks: Blocks) -> None:
    parts = blocks(1, 4)
    _, objective, _ = consensus_update(LocalBlockPool(parts, []), dictionary.filters, ConstraintSet(), {})
    assert objective == pytest.approx(sum(part.code(dictionary.filters).objective for part in parts) / 5)
    assert objective == pytest.approx(together(parts, dictionary.filters).objective(dictionary.filters, 0.2), rel=1e-5)


def test_certificate_memory_of_multipliers_helps(dictionary: Dictionary, blocks: Blocks) -> None:
    """Codes as before: another five rounds come nearer than the first five did, by what the multipliers remember."""
    parts = blocks(3, 3, 3)
    pool, statistics = LocalBlockPool(parts, []), together(parts, dictionary.filters)
    first, _, memory = consensus_update(pool, dictionary.filters, ConstraintSet(), {})
    second, _, _ = consensus_update(pool, dictionary.filters, ConstraintSet(), memory)
    without, _, _ = consensus_update(pool, dictionary.filters, ConstraintSet(), {"local": memory["local"]})
    reached = [statistics.objective(filters, 0.2) for filters in (second, without, first)]
    assert reached[0] < min(reached[1:])


def test_identity_what_blocks_are_asked(dictionary: Dictionary, blocks: Blocks) -> None:
    """At first for filters near the ones that images were coded for, by a penalty that many blocks do not enlarge."""
    asked = []

    class BlockPool(LocalBlockPool):
        def local_filters(self, filters: Tensor, starts: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
            asked.append((filters, starts, targets, penalty))
            return super().local_filters(filters, starts, targets, penalty)

    parts = blocks(1, 2, 3)
    consensus_update(BlockPool(parts, []), dictionary.filters, ConstraintSet(), {})
    assert len(asked) == consensus.ROUNDS
    filters, starts, targets, penalty = asked[0]
    assert torch.equal(filters, dictionary.filters)
    assert all(torch.equal(one, filters) for one in (*starts, *targets))
    usage = torch.stack([part.code(filters).usage for part in parts]).sum(0) / 3
    torch.testing.assert_close(penalty, consensus.PENALTY * weights_of(usage))


def test_invariant_blocks_in_other_hands_give_equal_bits(dictionary: Dictionary, blocks: Blocks) -> None:
    """Every answer from a block that was made for it alone, as after a worker's death."""

    class Forgetful(LocalBlockPool):
        def code(self, filters: Tensor):
            return [part.code(filters) for part in blocks(2, 3, 1)]

        def local_filters(self, filters: Tensor, starts: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
            answers = zip(blocks(2, 3, 1), starts, targets, strict=True)
            return torch.stack([part.local_filters(filters, s, t, penalty) for part, s, t in answers])

    found = []
    for pool in (LocalBlockPool(blocks(2, 3, 1), []), Forgetful([], [])):
        memory: dict[str, Tensor] = {}
        filters = dictionary.filters
        for _ in range(2):
            filters, objective, memory = consensus_update(pool, filters, ConstraintSet(), memory)
        found.append((filters, torch.tensor(objective), memory["local"], memory["multiplier"]))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_invariant_a_filter_that_no_block_uses_stays(dictionary: Dictionary, blocks: Blocks) -> None:
    high = torch.tensor([1.0, -1.0])
    checks = (high[:, None] * high).repeat(4, 4).expand(1, 3, 8, 8) / (3 * 64) ** 0.5
    filters = torch.cat([dictionary.filters, checks])
    parts = blocks(3, 3)
    assert not any(part.code(filters).usage[-1] for part in parts)
    agreed, _, _ = consensus_update(LocalBlockPool(parts, []), filters, ConstraintSet(), {})
    torch.testing.assert_close(agreed[-1], filters[-1], rtol=1e-3, atol=1e-4)


def test_refuses_codes_that_use_no_filter(dictionary: Dictionary, blocks: Blocks, config) -> None:
    parts = blocks(2, 2, config=config.model_copy(update={"lmbda": 50.0}))
    with pytest.raises(TensorError, match="survives lambda"):
        consensus_update(LocalBlockPool(parts, []), dictionary.filters, ConstraintSet(), {})

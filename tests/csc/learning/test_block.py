import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stl_ray.config.spaces import DictionaryConfig
from stl_ray.csc import Dictionary, operator_of, solve_cbpdn, split_bands
from stl_ray.csc.certificate import objective
from stl_ray.csc.learning import Block, block
from stl_ray.csc.learning.constraint import ConstraintSet
from stl_ray.csc.learning.update import weights_of
from stl_ray.errors import TensorError

Blocks = Callable[..., list[Block]]


@pytest.fixture(scope="module")
def mixed(natural_images: Tensor) -> list[Tensor]:
    """Six images of three sizes."""
    sizes = [(32, 32), (20, 32), (32, 32), (11, 9), (20, 32), (32, 32)]
    return [image[:, :height, :width] for image, (height, width) in zip(natural_images, sizes, strict=False)]


@pytest.fixture(scope="module")
def large(natural_images: Tensor) -> Tensor:
    """(3, 3, 96, 128), larger than a window."""
    rows = torch.cat(list(natural_images[:12].view(3, 4, 3, 32, 32).unbind(1)), dim=-1)
    return torch.cat([rows, rows.flip(-1), rows.flip(-2)], dim=-2)


def named(images: list[Tensor], config: DictionaryConfig, ids: list[str] | None = None, seed: int = 0) -> Block:
    return Block(images, [f"image {i}" for i in range(len(images))] if ids is None else ids, config, seed=seed)


def answers(of: Block, filters: Tensor) -> list[Tensor]:
    """All that a block says about filters."""
    coding, judgement, statistics = of.code(filters), of.judge(filters), of.statistics(filters)
    penalty = 2 * weights_of(coding.usage)
    local = of.local_filters(filters, filters, 0.9 * filters, penalty)
    numbers = torch.tensor([coding.objective, judgement.objective, judgement.squared_error, judgement.sparsity])
    return [coding.usage, local, numbers, *statistics.tensors().values(), of.patches(5)]


def equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def test_invariant_a_block_that_is_made_anew_gives_equal_bits(dictionary: Dictionary, blocks: Blocks) -> None:
    """Whatever it, or the one that was lost, was asked before."""
    filters = dictionary.filters
    (asked,), (anew,) = blocks(6), blocks(6)
    asked.code(filters.roll(1, 0))
    expected = answers(asked, filters)
    asked.code(filters.roll(1, 0))
    assert equal(answers(asked, filters), expected)
    penalty = 2 * weights_of(expected[0])
    assert torch.equal(anew.local_filters(filters.clone(), filters, 0.9 * filters, penalty), expected[1])
    assert equal(answers(anew, filters), expected)


def test_invariant_under_threads(dictionary: Dictionary, blocks: Blocks, threads: Callable[[int], None]) -> None:
    found = []
    for count in (1, 2):
        threads(count)
        found.append(answers(*blocks(24), dictionary.filters))
    assert equal(*found)


def test_invariant_blocks_together_are_one_block(dictionary: Dictionary, blocks: Blocks) -> None:
    (whole,) = blocks(8)
    parts = blocks(1, 5, 2)
    codings, judgements = ([getattr(p, ask)(dictionary.filters) for p in parts] for ask in ("code", "judge"))
    coding, judgement = whole.code(dictionary.filters), whole.judge(dictionary.filters)
    assert len(whole) == coding.images == judgement.images == sum(map(len, parts)) == 8
    assert coding.objective == pytest.approx(sum(c.objective for c in codings), rel=1e-5)
    torch.testing.assert_close(coding.usage, sum(c.usage for c in codings), rtol=1e-5, atol=1e-6)
    for figure in ("objective", "squared_error", "pixels", "sparsity"):
        together = sum(getattr(j, figure) for j in judgements)
        assert getattr(judgement, figure) == pytest.approx(together, rel=1e-9), figure
    joined = parts[0].statistics(dictionary.filters)
    for part in parts[1:]:
        joined = joined.joined(part.statistics(dictionary.filters))
    for name, expected in whole.statistics(dictionary.filters).tensors().items():
        assert (joined.tensors()[name] - expected).abs().max() <= 1e-5 * expected.abs().max(), name


def test_invariant_images_that_are_solved_part_by_part(
    dictionary: Dictionary, blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    (at_once,), (by_parts,) = blocks(5), blocks(5)
    expected = at_once.code(dictionary.filters)
    monkeypatch.setattr(block, "PIXELS_AT_ONCE", 2 * 32 * 32)
    found = by_parts.code(dictionary.filters)
    assert found.images == 5
    assert found.objective == pytest.approx(expected.objective, rel=1e-5)
    torch.testing.assert_close(found.usage, expected.usage, rtol=1e-5, atol=1e-6)


def test_agrees_with_the_objective_by_definition(
    dictionary: Dictionary, mixed: list[Tensor], config: DictionaryConfig
) -> None:
    """Of images of mixed sizes, the codes for learning and those for judging."""
    mixed_block = named(mixed, config)
    assert len(mixed_block) == 6
    for accuracy, found in (
        (block.CODING, mixed_block.code(dictionary.filters).objective),
        ("default", mixed_block.judge(dictionary.filters).objective),
    ):
        expected = 0.0
        for image in mixed:
            highpass = split_bands(image[None])[1]
            maps = solve_cbpdn(highpass, dictionary, 0.2, accuracy=accuracy).maps.double()
            operator = operator_of(dictionary, *image.shape[1:], torch.float64, image.device)
            expected += float(objective(maps, highpass.double(), operator, 0.2))
        assert found == pytest.approx(expected, rel=1e-5)


def test_identity_judgement_of_mixed_sizes(
    dictionary: Dictionary, mixed: list[Tensor], config: DictionaryConfig
) -> None:
    judged = named(mixed, config).judge(dictionary.filters)
    assert judged.pixels == sum(image.numel() for image in mixed)
    shares, squared_error = 0.0, 0.0
    for image in mixed:
        codes = solve_cbpdn(split_bands(image[None])[1], dictionary, 0.2)
        shares += float((codes.maps != 0).double().mean())
        squared_error += float((split_bands(image[None])[1] - codes.synthesis).square().sum())
    assert judged.sparsity == pytest.approx(shares, rel=1e-5)
    assert judged.squared_error == pytest.approx(squared_error, rel=1e-5)


def test_certificate_patches_are_of_their_images(highpass: Tensor, blocks: Blocks) -> None:
    (four,) = blocks(4)
    patches = four.patches(3)
    assert patches.shape == (12, 3, 8, 8)
    for image, own in zip(highpass, patches.view(4, 3, -1), strict=False):
        every = image.unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4).flatten(0, 1).flatten(1)
        assert torch.cdist(own, every, compute_mode="donot_use_mm_for_euclid_dist").amin(1).max() == 0
    assert len(patches.unique(dim=0)) > 8


def test_invariant_patches_depend_on_id_and_seed_alone(blocks: Blocks, config: DictionaryConfig, mixed) -> None:
    apart = torch.cat([part.patches(3) for part in blocks(1, 3)])
    assert torch.equal(blocks(4)[0].patches(3), apart)
    one = named(mixed[:1], config).patches(3)
    assert torch.equal(named(mixed[:1], config, ["image 0"]).patches(3), one)
    assert not torch.equal(named(mixed[:1], config, ["another"]).patches(3), one)
    assert not torch.equal(named(mixed[:1], config, seed=1).patches(3), one)


def test_invariant_flat_patches_are_left_out(config: DictionaryConfig) -> None:
    half = torch.full((3, 64, 64), 0.5)
    half[:, :, 48:] = torch.rand((3, 64, 16), generator=torch.Generator().manual_seed(0))
    patches = named([half], config).patches(200)
    assert 10 < len(patches) < 150
    assert ConstraintSet().textured(patches).all()
    assert len(named([torch.full((3, 64, 64), 0.5)], config).patches(9)) == 0


def test_identity_a_large_image_is_a_window_of_its_high_band(large: Tensor, config: DictionaryConfig) -> None:
    held = named([large[0]], config)
    assert held.bytes == 3 * 64 * 64 * 4
    patches = held.patches(50)
    high = split_bands(large[:1])[1][0]
    places = []
    for patch in patches:
        windows = high.unfold(1, 8, 1).unfold(2, 8, 1)
        same = (windows == patch[:, None, None]).all(0).all(-1).all(-1).nonzero()
        assert len(same) >= 1
        places.append(same[0])
    spread = torch.stack(places).amax(0) - torch.stack(places).amin(0)
    assert (spread <= 64 - 8).all()


def test_invariant_windows_depend_on_id_and_seed_alone(
    large: Tensor, dictionary: Dictionary, config: DictionaryConfig
) -> None:
    def error(images: list[Tensor], ids: list[str], seed: int = 0) -> float:
        return named(images, config, ids, seed).judge(dictionary.filters).squared_error

    alone = error([large[0]], ["a"])
    rest = error([large[1], large[2]], ["b", "c"])
    assert error([large[2], large[0], large[1]], ["c", "a", "b"]) == pytest.approx(alone + rest, rel=1e-9)
    assert len({alone, error([large[0]], ["d"]), error([large[0]], ["a"], seed=1)}) == 3


def test_invariant_double_precision_images_are_learned_from_in_single(
    natural_images: Tensor, dictionary: Dictionary, config: DictionaryConfig
) -> None:
    single, double = (named(list(images), config) for images in (natural_images[:2], natural_images[:2].double()))
    assert equal(answers(single, dictionary.filters), answers(double, dictionary.filters))


def test_identity_bytes_of_what_is_held(blocks: Blocks, dictionary: Dictionary) -> None:
    (two,) = blocks(2)
    images = 2 * 3 * 32 * 32 * 4
    assert two.bytes == images
    statistics = two.statistics(dictionary.filters)
    assert two.bytes == images + sum(tensor.nbytes for tensor in statistics.tensors().values())


def test_refuses_images_by_name(natural_images: Tensor, config: DictionaryConfig) -> None:
    good, nan = natural_images[0], natural_images[1].clone()
    nan[2, 31, 31] = math.nan
    cases = [(nan, "finite"), (good[:, :7], "smaller"), (good[0], "shape"), ((255 * good).byte(), "type")]
    for bad, message in cases:
        with pytest.raises(TensorError, match=message) as caught:
            Block([good, bad], ["train/1", "train/2"], config, seed=0)
        assert caught.value.item == "train/2"
    with pytest.raises(TensorError, match="without images"):
        Block([], [], config, seed=0)

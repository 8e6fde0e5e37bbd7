import numpy as np
import pytest
import torch

from stl_ray.defenses.deflection import NUMBERS, deflected, drawn, moves
from stl_ray.errors import TensorError


def one_by_one(image: np.ndarray, seed: int, count: int, window: int, stays: np.ndarray) -> np.ndarray:
    """(C, H, W) by the algorithm's words, a pixel at a time and in place, from the random numbers of that seed."""
    image, done = image.copy(), 0
    channels, height, width = image.shape
    generator = torch.Generator().manual_seed(seed)

    def between(first: int, last: int, uniform: float) -> int:
        return first + int(uniform * (last - first + 1))

    while done < count:
        for channel in range(channels):
            u, v, a, b, keep = torch.rand(NUMBERS, generator=generator, dtype=torch.float64).tolist()
            x, y = between(0, height - 1, u), between(0, width - 1, v)
            if keep < stays[x, y]:
                continue
            source_x = between(max(1, x - window), min(height - 1, x + window), a)
            source_y = between(max(1, y - window), min(width - 1, y + window), b)
            image[channel, x, y] = image[channel, source_x, source_y]
            done += 1
    return image


def a_map(height: int, width: int) -> np.ndarray:
    """From 0 at one corner to 1 at the opposite one."""
    return (np.arange(height)[:, None] + np.arange(width)) / (height + width - 2)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    ("size", "count", "window"), [((32, 32), 200, 10), ((8, 11), 500, 3), ((2, 2), 50, 1), ((9, 8), 1, 40)]
)
def test_agrees_with_one_pixel_after_the_other(size, count, window, mapped):
    images = torch.rand(4, 3, *size, generator=torch.Generator().manual_seed(0))
    maps = torch.from_numpy(a_map(*size)).expand(4, *size) if mapped else None
    ours = deflected(images, [5, 6, 7, 2**63 - 1], count, window, maps)
    stays = a_map(*size) if mapped else np.zeros(size)
    for image, seed, expected in zip(images, [5, 6, 7, 2**63 - 1], ours, strict=True):
        np.testing.assert_array_equal(expected.numpy(), one_by_one(image.numpy(), seed, count, window, stays))


def pairs(seed: int, size: int, count: int, window: int, stays: np.ndarray | None = None):
    """Targets and sources as (channel, row, column), (N, 3) each."""
    found = drawn(torch.Generator().manual_seed(seed), (3, size, size), count, window, stays)
    return [np.stack(np.unravel_index([pair[end] for pair in found], (3, size, size)), 1) for end in (0, 1)]


def test_identity_deflections_are_counted_after_passes():
    assert len(pairs(0, 32, 200, 10)[0]) == 201
    assert {len(pairs(seed, 32, 200, 10, a_map(32, 32))[0]) for seed in range(20)} == {200, 201, 202}


def test_identity_sources_are_near_in_the_same_channel_and_never_of_the_first_row_or_column():
    targets, sources = pairs(0, 20, 20_000, 4)
    assert (targets[:, 0] == sources[:, 0]).all()
    assert np.abs(targets - sources).max() == 4
    assert sources[:, 1:].min() == 1
    assert targets[:, 1:].min() == 0
    assert targets[:, 1:].max() == sources[:, 1:].max() == 19


def test_agrees_in_distribution_with_offsets_drawn_until_one_is_inside():
    """The published code draws both offsets again and again; what it takes in the end has this distribution."""
    size, window, count = 12, 4, 60_000
    targets, sources = pairs(1, size, count, window)
    counted = np.zeros((size, size))
    np.add.at(counted, (targets[:, 1], sources[:, 1]), 1)
    generator, literal = np.random.default_rng(0), np.zeros((size, size))
    x, y = generator.integers(0, size, (2, 4 * count))
    a, b = generator.integers(-window, window + 1, (2, 4 * count))
    inside = (x + a < size) & (x + a > 0) & (y + b < size) & (y + b > 0)
    np.add.at(literal, (x[inside], (x + a)[inside]), 1)
    # Of each row, since offsets that are refused leave the position as it was drawn.
    counted, literal = (table / table.sum(1, keepdims=True) for table in (counted, literal))
    assert np.abs(counted - literal).max() < 0.02  # four standard deviations of 5,000 draws with p = 1/5


def test_agrees_positions_follow_the_map():
    targets, _ = pairs(2, 16, 60_000, 4, a_map(16, 16))
    counted = np.zeros((16, 16))
    np.add.at(counted, (targets[:, 1], targets[:, 2]), 1)
    expected = 1 - a_map(16, 16)
    difference = np.abs(counted / counted.sum() - expected / expected.sum())
    assert difference.max() < 1.8e-3  # five standard deviations of p = 1/128
    assert counted[15, 15] == 0


def test_identity_every_value_is_one_of_the_channel():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for image, result in zip(images, deflected(images, [3, 4], 300, 5), strict=True):
        for channel, changed in zip(image, result, strict=True):
            assert set(changed.flatten().tolist()) <= set(channel.flatten().tolist())
    assert not torch.equal(deflected(images, [3, 4], 300, 5), images)


def test_identity_the_derivative_is_the_transpose_of_the_moves():
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    v = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    (product,) = torch.autograd.grad(deflected(images, [3, 4], 300, 5), images, v)
    for row, seed in enumerate([3, 4]):
        matrix = torch.eye(192)
        for target, source in moves(seed, (3, 8, 8), 300, 5, None).items():
            matrix[target] = torch.eye(192)[source]
        torch.testing.assert_close(product[row].flatten(), matrix.T @ v[row].flatten())


def test_refuses_an_image_of_one_row():
    with pytest.raises(TensorError, match="at least 2 x 2"):
        deflected(torch.zeros(1, 3, 1, 8), [0], 200, 10)

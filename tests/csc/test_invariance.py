"""What becomes of an image depends on nothing but that image, for every method that runs on a CPU."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from stl_ray.csc import Codes, Dictionary, native, solve_cbpdn, split_bands

CASES = [
    ("default", (32, 32)),
    ("reference", (32, 32)),
    ("exact", (32, 32)),
    ("default", (9, 80)),
    ("default", (15, 21)),
    ("default", (8, 64)),
]


@pytest.fixture(autouse=True)
def one_thread_again() -> Iterator[None]:
    yield
    torch.set_num_threads(1)


@pytest.fixture(params=["admm", "active_set"])
def method(request: pytest.FixtureRequest) -> str:
    if request.param == "active_set" and not native.available():
        pytest.skip("the native core is not built")
    return str(request.param)


def images_of(natural_images: Tensor, size: tuple[int, int]) -> Tensor:
    """Seven images of that size, every second one with noise."""
    images = natural_images[:7].repeat(1, 1, 1, 2)[..., : size[0], : size[1]].clone()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    images[::2] = (images[::2] + 0.04 * noise[::2]).clamp(0, 1)
    return images


def stored(images: Tensor, codes: Codes) -> Tensor:
    """The bytes of the projected images."""
    return ((split_bands(images)[0] + codes.synthesis).clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.mark.parametrize(("tier", "size"), CASES)
def test_invariant_alone_in_a_batch_shuffled_and_on_two_threads(
    natural_images: Tensor, dictionary: Dictionary, method: str, tier: str, size: tuple[int, int]
) -> None:
    images = images_of(natural_images, size)[: 3 if tier == "exact" else 7]
    order = torch.arange(len(images)).roll(2)

    def solve(images: Tensor) -> tuple[Tensor, ...]:
        codes = solve_cbpdn(split_bands(images)[1], dictionary, 0.2, method=method, accuracy=tier)
        return stored(images, codes), codes.status, codes.iterations

    expected = solve(images)
    assert len(expected[2].unique()) > 1 or method == "active_set"
    shuffled = solve(images[order])
    torch.set_num_threads(2)
    together = solve(images)
    alone = [torch.cat(parts) for parts in zip(*(solve(image[None]) for image in images), strict=True)]
    for value, whole, mixed, single in zip(expected, together, shuffled, alone, strict=True):
        assert torch.equal(whole, value)
        assert torch.equal(mixed, value[order])
        assert torch.equal(single, value)


def test_invariant_admm_where_threads_share_a_product_otherwise(natural_images: Tensor, dictionary: Dictionary) -> None:
    """Which elements of a complex product are rounded singly, instead of in a vector, goes by where a thread begins."""
    images = torch.nn.functional.interpolate(natural_images[:3], size=(61, 67), mode="bilinear")

    def solve(images: Tensor) -> Codes:
        return solve_cbpdn(split_bands(images)[1], dictionary, 0.2, method="admm")

    expected = solve(images).synthesis
    torch.set_num_threads(3)
    codes = solve(images)
    assert torch.equal(solve(images.flip(0)).synthesis, codes.synthesis.flip(0))
    assert torch.equal(solve(images[1:2]).synthesis, codes.synthesis[1:2])
    # The default tier's promise, since another rounding may stop an image an iteration earlier; 1e-7 is usual.
    assert (codes.synthesis - expected).norm() <= 2 * 2e-2 * images.norm()


def test_invariant_the_memory_format_and_layout_of_a_signal(
    highpass: Tensor, dictionary: Dictionary, method: str
) -> None:
    expected = solve_cbpdn(highpass[:4], dictionary, 0.2, method=method)
    wide = torch.cat([highpass[:4], highpass[:4]], dim=3)[..., :32]
    for signal in (highpass[:4].contiguous(memory_format=torch.channels_last), wide):
        assert not signal.is_contiguous()
        codes = solve_cbpdn(signal, dictionary, 0.2, method=method)
        assert torch.equal(codes.maps, expected.maps)
        assert torch.equal(codes.synthesis, expected.synthesis)
        assert codes.synthesis.is_contiguous()


def test_invariant_under_autocast(highpass: Tensor, dictionary: Dictionary, method: str) -> None:
    expected = solve_cbpdn(highpass[:2], dictionary, 0.2, method=method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes = solve_cbpdn(highpass[:2], dictionary, 0.2, method=method)
    assert torch.equal(codes.maps, expected.maps)
    assert torch.equal(codes.synthesis, expected.synthesis)

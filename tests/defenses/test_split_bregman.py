import hashlib
import math
from itertools import product

import numpy as np
import pytest
import torch
from skimage import data
from skimage.restoration import denoise_tv_bregman

from stl_ray.csc import native
from stl_ray.defenses import split_bregman
from stl_ray.defenses.split_bregman import SplitBregman

MU = 1 / 0.03
LAMBDA = 2 * MU

VARIANTS = list(product((True, False), ("reference", "renormalised")))


@pytest.fixture(scope="module")
def problem() -> tuple[torch.Tensor, torch.Tensor]:
    """(2, 3, 16, 13) float64 images, and about half of their values."""
    generator = torch.Generator().manual_seed(0)
    photograph = torch.from_numpy(data.chelsea()[100:260:10, 100:360:10].copy()).permute(2, 0, 1).double() / 255
    images = torch.stack([photograph, photograph.flip(1)])[..., :13]
    return images, torch.rand(images.shape, generator=generator) < 0.5


def neighbours(r, c, height, width):
    return [(i, j) for i, j in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)) if 0 <= i < height and 0 <= j < width]


def pixel_by_pixel(f, kept, *, sweeps, tolerance, iterations, isotropic, border):
    """The formulas for one image (C, H, W), row by row, one pixel after the other; values as lists."""
    channels, height, width = f.shape
    pixels = [(k, r, c) for k in range(channels) for r in range(height) for c in range(width)]
    f = {p: float(f[p]) for p in pixels}
    u = {p: f[p] if kept[p] else 0.0 for p in pixels}
    right = {(k, r, c): (k, r, c + 1) for k, r, c in pixels if c + 1 < width}
    below = {(k, r, c): (k, r + 1, c) for k, r, c in pixels if r + 1 < height}
    around = {(k, r, c): [(k, i, j) for i, j in neighbours(r, c, height, width)] for k, r, c in pixels}
    b = {(p, q): 0.0 for step in (right, below) for p, q in step.items()}
    d = dict(b)
    count = 0
    change = math.inf
    while count < iterations and change > tolerance:
        count += 1
        before = dict(u)
        for p in pixels * sweeps:
            total = 0.0
            for q in around[
                p
            ]:  # d - b points from the first to the second, so that u prefers u[second] - u[first] = d - b
                total += u[q] + (d[q, p] - b[q, p] if (q, p) in d else b[p, q] - d[p, q])
            if kept[p]:
                u[p] = (LAMBDA * total + MU * f[p]) / (MU + LAMBDA * len(around[p]))
            else:
                u[p] = total / (4 if border == "reference" else len(around[p]))
        for p in pixels:
            pairs = [(p, step[p]) for step in (right, below) if p in step]
            t = {(p, q): u[q] - u[p] + b[p, q] for p, q in pairs}
            length = math.hypot(*t.values())
            for pair, value in t.items():
                if isotropic:
                    d[pair] = value * length * LAMBDA / (length * LAMBDA + 1)
                else:
                    d[pair] = math.copysign(max(abs(value) - 1 / LAMBDA, 0), value)
                b[pair] = value - d[pair]
        change = math.sqrt(sum((u[p] - before[p]) ** 2 for p in pixels) / len(pixels))
    return torch.tensor([u[p] for p in pixels], dtype=torch.float64).view(channels, height, width), count


def objective(u, f, kept, *, isotropic, border):
    """What the iterations minimise, of one image (C, H, W)."""
    right, below = torch.zeros_like(u), torch.zeros_like(u)
    right[..., :-1], below[:, :-1] = u.diff(dim=2), u.diff(dim=1)
    if isotropic:  # the integral of the slope, where lambda |d| = slope^2 / (1 - slope)
        x = LAMBDA * (right.square() + below.square()).sqrt()
        slope = ((x.square() + 4 * x).sqrt() - x) / 2
        penalty = (x * slope + slope.square() / 2 + slope + torch.log1p(-slope)) / LAMBDA
    else:
        penalty = right.abs() + below.abs()
    value = MU / 2 * (u - f)[kept].square().sum() + penalty.sum()
    if border == "reference":  # dividing by 4 is n neighbours and 4 - n times black
        missing = 4 - torch.tensor(
            [[len(neighbours(r, c, *u.shape[1:])) for c in range(u.shape[2])] for r in range(u.shape[1])]
        )
        value = value + LAMBDA / 2 * (missing * u.square())[~kept].sum()
    return float(value)


@pytest.mark.parametrize("isotropic", [True, False])
def test_agrees_with_scikit_image_where_nothing_is_missing(isotropic):
    """In the middle: scikit-image has rows of pixels beyond the border that stay as they were."""
    image = data.astronaut()[100:164, 200:264, 1].astype(np.float64) / 255
    expected = denoise_tv_bregman(image, weight=MU, eps=1e-8, max_num_iter=5000, isotropic=isotropic)
    method = SplitBregman(sweeps=1, tolerance=1e-8, max_iterations=5000, isotropic=isotropic)
    whole = torch.from_numpy(image)[None, None]
    found = method.solve(whole, torch.ones_like(whole, dtype=torch.bool))[0, 0]
    middle = slice(16, -16)  # what the border does dies away towards it
    assert np.abs(expected - image)[middle, middle].mean() > 0.01
    np.testing.assert_allclose(found[middle, middle], expected[middle, middle], rtol=0, atol=5e-6)


@pytest.mark.parametrize(("isotropic", "border"), VARIANTS)
def test_agrees_with_the_formulas_pixel_by_pixel_at_the_limit(problem, isotropic, border):
    images, kept = (tensor[:1, :1] for tensor in problem)
    method = SplitBregman(sweeps=2, tolerance=1e-8, max_iterations=2000, isotropic=isotropic, border=border)
    found = method.solve(images, kept)[0]
    variant = {"isotropic": isotropic, "border": border}
    expected, count = pixel_by_pixel(images[0], kept[0], sweeps=2, tolerance=1e-6, iterations=600, **variant)
    assert count < 600
    ours, theirs = (objective(u, images[0], kept[0], **variant) for u in (found, expected))
    assert ours <= theirs * (1 + 1e-9)
    assert theirs - ours < 1e-4 * theirs
    seen = kept[0] if not isotropic else torch.ones_like(kept[0])  # absolute values leave missing pixels a choice
    torch.testing.assert_close(found[seen], expected[seen], rtol=0, atol=1e-3)


def test_agrees_before_the_limit_as_far_as_another_order_of_sweeps_can(problem):
    images, kept = problem
    method = SplitBregman()
    for image, mask, found in zip(images, kept, method.solve(images, kept), strict=True):
        expected, _ = pixel_by_pixel(
            image, mask, sweeps=10, tolerance=0.01, iterations=100, isotropic=True, border="reference"
        )
        assert float((found - expected).square().mean().sqrt()) < 0.005  # the tolerance is 0.01
        errors = [float((u - image).square().mean()) for u in (found, expected)]
        assert errors[0] == pytest.approx(errors[1], rel=0.01)


def test_identity_two_pixels_by_hand():
    """At the limit mu (u0 - 0) = slope = mu (1 - u1): 0.03 at a slope of 1."""
    pair, kept = (
        torch.tensor([0.0, 1.0], dtype=torch.float64).view(1, 1, 1, 2),
        torch.ones(1, 1, 1, 2, dtype=torch.bool),
    )
    limit = {"tolerance": 0, "max_iterations": 2000}
    found = SplitBregman(**limit, isotropic=False).solve(pair, kept)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.03, 0.97], dtype=torch.float64))
    low, high = SplitBregman(**limit).solve(pair, kept).flatten().tolist()
    slope = MU * low
    assert slope == pytest.approx(MU * (1 - high))
    assert LAMBDA * (high - low) == pytest.approx(slope**2 / (1 - slope))


@pytest.mark.parametrize("border", ["reference", "renormalised"])
def test_identity_one_missing_pixel_of_a_flat_image_by_hand(border):
    """One sweep, from the neighbours as they are."""
    method = SplitBregman(sweeps=1, max_iterations=1, border=border)
    flat = torch.full((1, 1, 8, 9), 0.4, dtype=torch.float64)
    for place, share in (((4, 4), 1), ((0, 4), 3 / 4), ((4, 0), 3 / 4), ((0, 0), 1 / 2), ((0, 8), 1 / 2)):
        kept = torch.ones_like(flat, dtype=torch.bool)
        kept[0, 0, *place] = False
        found = method.solve(flat, kept)
        share = share if border == "reference" else 1
        assert float(found[0, 0, *place]) == pytest.approx(0.4 * share)


@pytest.mark.parametrize("isotropic", [True, False])
def test_identity_a_flat_image_is_filled_in_flat(isotropic):
    flat = torch.full((1, 3, 9, 8), 0.4, dtype=torch.float64)
    kept = torch.rand(flat.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    method = SplitBregman(tolerance=1e-9, max_iterations=3000, isotropic=isotropic, border="renormalised")
    torch.testing.assert_close(method.solve(flat, kept), flat, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("isotropic", "border"), VARIANTS)
@pytest.mark.parametrize("size", [(9, 12), (8, 9), (10, 11)])
def test_certificate_the_product_with_the_jacobian_by_finite_differences(size, isotropic, border):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, 3, *size, dtype=torch.float64, generator=generator)
    images = images * torch.tensor([1, 0.5, 0.2, 0.02]).view(
        4, 1, 1, 1
    )  # so that they take different numbers of iterations
    v, direction = (torch.randn(images.shape, dtype=torch.float64, generator=generator) for _ in range(2))
    kept = torch.rand(images.shape, generator=generator) < 0.5
    method = SplitBregman(sweeps=3, isotropic=isotropic, border=border)
    restored, pullback = method.linearised(images, kept)
    assert torch.equal(restored, method.solve(images, kept))
    step = 1e-6 * direction
    expected = ((method.solve(images + step, kept) - method.solve(images - step, kept)) / 2e-6 * v).flatten(1).sum(1)
    for _ in range(2):  # a product leaves everything as it was
        torch.testing.assert_close((pullback(v) * direction).flatten(1).sum(1), expected, rtol=1e-5, atol=1e-6)


def test_invariant_tiles_threads_and_batch_mates_change_no_bit(problem, monkeypatch):
    images, kept = (torch.cat([tensor, tensor.flip(3)]) for tensor in problem)
    images = (images * torch.tensor([1, 0.5, 0.2, 0.02]).view(4, 1, 1, 1)).float()
    whole, pullback = SplitBregman().linearised(images, kept)
    product = pullback(images)
    threads = torch.get_num_threads()
    try:
        for tile, count in ((1, 1), (2 * images[0].numel(), 2), (1 << 20, 3)):
            monkeypatch.setattr(split_bregman, "TILE", tile)
            torch.set_num_threads(count)
            restored, pullback = SplitBregman().linearised(images, kept)
            assert torch.equal(restored, whole)
            assert torch.equal(pullback(images), product)
            assert torch.equal(SplitBregman().solve(images, kept), whole)
    finally:
        torch.set_num_threads(threads)


def test_identity_the_same_bits_on_every_processor():
    levels = torch.arange(3 * 20 * 21).view(1, 3, 20, 21)
    images, kept = (levels * 37 % 256).float() / 255, levels * 7919 % 13 < 6
    restored, pullback = SplitBregman().linearised(images, kept)
    assert torch.equal(SplitBregman().solve(images, kept), restored)
    digests = [hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:16] for tensor in (restored, pullback(images))]
    assert digests == ["01bbbb16f01a52a9", "d714813971557522"]


@pytest.mark.parametrize(
    "name", native.instruction_sets() or [pytest.param("", marks=pytest.mark.skip("no native core"))]
)
@pytest.mark.parametrize("size", [(8, 9), (9, 8), (1, 1), (5, 1), (1, 6), (40, 33), (20, 300)])
def test_agrees_the_native_core_with_torch_to_the_last_bit(monkeypatch, size, name):
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(4, 3, *size, generator=generator) * torch.tensor([1, 0.5, 0.1, 0.01]).view(4, 1, 1, 1)
    kept = torch.rand(images.shape, generator=generator) < 0.5
    images[0][~kept[0]] = torch.nan  # of no consequence
    settings = [
        {"isotropic": isotropic, "border": border, **more}
        for isotropic, border in VARIANTS
        for more in ({}, {"sweeps": 1, "weight": 0.2}, {"sweeps": 3, "max_iterations": 2}, {"tolerance": 0, "max_iterations": 9})
    ]  # fmt: skip
    monkeypatch.setenv(native.CAP, name)
    found = [SplitBregman(**given).solve(images, kept) for given in settings]
    monkeypatch.setattr(native, "available", lambda: False)
    for given, restored in zip(settings, found, strict=True):
        assert torch.equal(restored, SplitBregman(**given).solve(images, kept)), given


@pytest.mark.skipif(not native.available(), reason="the native core is not built")
def test_refuses_what_the_native_core_cannot_take():
    images, kept = np.zeros((2, 3, 8, 8), np.float32), np.ones((2, 3, 8, 8), bool)
    weights = np.zeros((2, 5), np.float32)
    given = {
        "lmbda": 1,
        "isotropic": True,
        "sweeps": 1,
        "tolerance": 0,
        "max_iterations": 1,
        "scale": weights,
        "share": weights,
    }
    for mask, changed in (
        (kept[:1], {}),
        (kept, {"sweeps": 0}),
        (kept, {"threads": 0}),
        (kept, {"instruction_set": "sse9"}),
    ):
        with pytest.raises(ValueError, match=r"mask of another shape|fewer than one|no instruction set sse9"):
            native.core.split_bregman(images, mask, **given | changed)
    for mask, changed in ((kept.astype(np.uint8), {}), (kept, {"scale": weights[:, :4]})):
        with pytest.raises(TypeError):
            native.core.split_bregman(images, mask, **given | changed)

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_ray.attacks.budget import Budget
from stl_ray.attacks.budget_projection import (
    UNDERSHOOT,
    ProjectedImage,
    at_radius,
    radius_of,
    round_down_and_fill,
    scale_to_budget,
    scale_within_box,
)

COARSE = 1 / (1 - (1 - UNDERSHOOT["u8"]) ** 2)
"""Squared budget, 25.25, below which a grid one unit of squared norm short of it is more than the undershoot short."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_case(seed: int, levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = generator(seed)
    clean = torch.randint(0, levels + 1, (3, 9, 7), generator=draw).double()
    return clean, torch.randn(3, 9, 7, generator=draw, dtype=torch.float64)


def project(clean, direction, rel, *, store="u8", space="pixel", seed=0) -> ProjectedImage:
    return scale_to_budget(clean, direction, Budget(size=rel, space=space), store, generator(seed))


@given(st.integers(0, 10_000), st.integers(1, 255), st.floats(1e-3, 1.0), st.booleans())
@settings(max_examples=200, deadline=None)
def test_certificate_stored_budget_is_never_exceeded_and_under_by_two_percent_at_most(seed, levels, rel, sign):
    clean, direction = random_case(seed, levels)
    projected = project(clean, direction.sign() if sign else direction, rel)
    change, budget = projected.levels - clean, rel * clean.norm()
    assert bool(
        ((projected.levels >= 0) & (projected.levels <= 255) & (projected.levels == projected.levels.round())).all()
    )
    assert change.square().sum() <= budget**2
    assert bool((change * direction >= 0).all())
    if projected.at_budget:
        assert change.norm() >= (1 - UNDERSHOOT["u8"]) * budget
    else:  # only where box or grid leave no room
        room = torch.where(direction > 0, 255 - clean, clean)
        assert room.norm() < budget or budget**2 < COARSE


@pytest.mark.parametrize("sign", [True, False])
def test_identity_scaling_has_the_norm_and_one_scale_for_all_free_entries(sign):
    clean, direction = random_case(1, 255)
    direction = direction.sign() if sign else direction
    room = torch.where(direction > 0, 255 - clean, clean)
    radius = 0.6 * float(room.norm())
    magnitude = scale_within_box(direction, room, radius)
    assert float(magnitude.norm()) == pytest.approx(radius, rel=1e-12)
    assert bool((magnitude <= room).all())
    free = (magnitude < room) & (direction != 0)
    scales = (magnitude / direction.abs())[free]
    assert 0 < int(free.sum()) < free.numel()
    torch.testing.assert_close(scales, scales[0].expand_as(scales), rtol=1e-12, atol=0)
    # Entries at their limit would exceed it at that scale.
    assert bool((scales[0] * direction.abs() >= room - 1e-9)[~free].all())


def test_agrees_scaling_with_bisection():
    clean, direction = random_case(2, 200)
    room = torch.where(direction > 0, 255 - clean, clean)
    radius = 0.3 * float(room.norm())
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        short = torch.minimum(middle * direction.abs(), room).norm() < radius
        low, high = (middle, high) if short else (low, middle)
    torch.testing.assert_close(scale_within_box(direction, room, radius), torch.minimum(low * direction.abs(), room))


def test_agrees_scaling_ends_at_the_box_if_the_budget_is_larger():
    clean, direction = random_case(3, 255)
    direction[0] = 0
    room = torch.where(direction > 0, 255 - clean, clean)
    magnitude = scale_within_box(direction, room, 1e6)
    torch.testing.assert_close(magnitude[1:], room[1:])
    assert not magnitude[0].any()


def test_certificate_equal_magnitudes_mix_the_two_nearest_levels():
    magnitude = torch.full((3, 20, 20), 2.3, dtype=torch.float64)
    radius = float(magnitude.norm())
    whole = round_down_and_fill(magnitude, radius, generator(1))
    assert set(whole.unique().tolist()) == {2.0, 3.0}
    assert radius**2 - 5 < float(whole.square().sum()) <= radius**2  # no further entry fits
    other = round_down_and_fill(magnitude, radius, generator(2))
    assert not torch.equal(whole, other)
    assert float((whole == 3).double().mean()) == pytest.approx((2.3**2 - 4) / 5, abs=1e-3)


def test_certificate_filling_prefers_the_largest_fraction():
    magnitude = 3 + torch.linspace(0.05, 0.95, 200, dtype=torch.float64)
    whole = round_down_and_fill(magnitude, float(magnitude.norm()), generator())
    raised = whole == 4
    assert 80 < int(raised.sum()) < 120
    assert bool((raised.double().diff() >= 0).all())  # exactly the upper part


def test_certificate_filling_continues_with_entries_that_fit():
    magnitude = torch.tensor([2.9, 0.8, 1.0, 0.7], dtype=torch.float64)
    # 3^2 exceeds 6.1; one of the two small entries fits, and the larger fraction wins.
    whole = round_down_and_fill(magnitude, 6.1**0.5, generator())
    assert whole.tolist() == [2.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("clean", "direction"),
    [
        (torch.zeros(3, 8, 8), torch.ones(3, 8, 8)),  # black: the budget is zero
        (torch.full((3, 8, 8), 128.0), torch.zeros(3, 8, 8)),  # no direction
        (torch.full((3, 8, 8), 255.0), torch.ones(3, 8, 8)),  # every pixel at its limit
        (torch.eye(8).expand(3, 8, 8), torch.ones(3, 8, 8)),  # darker than the grid can hold
    ],
)
def test_refuses_to_report_an_unreachable_budget_as_reached(clean, direction):
    projected = project(clean.double(), direction.double(), 0.1)
    assert not projected.at_budget
    torch.testing.assert_close(projected.levels, clean.double())


def test_invariant_under_the_length_of_the_direction():
    clean, direction = random_case(4, 255)
    a = project(clean, direction, 0.1)
    for factor in (1e-30, 2.0**20):
        b = project(clean, direction * factor, 0.1)
        assert float((a.levels - b.levels).abs().sum()) <= 2  # at most one rounding tie differs


@pytest.mark.parametrize("space", ["pixel", "standardized"])
@pytest.mark.parametrize("store", ["u8", "f32"])
def test_certificate_budget_of_each_space_and_storage_is_held(space, store):
    clean, direction = random_case(5, 255)
    levels = project(clean, direction, 0.05, store=store, space=space).levels
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if space == "standardized" else ((0,) * 3, (1,) * 3)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (mean, std))
    achieved = float(((levels - clean) / 255 / std).norm() / ((clean / 255 - mean) / std).norm())
    assert (1 - UNDERSHOOT[store]) * 0.05 <= achieved <= 0.05
    assert store == "f32" or torch.equal(levels, levels.round())


@pytest.mark.parametrize("store", ["u8", "f32"])
def test_certificate_linf_is_held_and_points_inside_stay(store):
    clean, change = random_case(6, 255)
    budget = Budget(kind="linf", size=8 / 255)
    levels = scale_to_budget(clean, 20 * change, budget, store, generator()).levels
    assert 7.99 < float((levels - clean).abs().max()) <= 8
    inside = scale_to_budget(clean, change, budget, store, generator())
    expected = (clean + (change.round() if store == "u8" else change)).clamp(0, 255)
    assert not inside.at_budget
    torch.testing.assert_close(inside.levels, expected)


@pytest.mark.parametrize("store", ["u8", "f32"])
@pytest.mark.parametrize("budget", [Budget(kind="l2", size=1), Budget(kind="linf", size=0.1)], ids=lambda b: b.kind)
def test_certificate_an_image_at_a_radius_is_along_the_change_and_never_beyond(budget, store):
    clean, change = random_case(7, 255)
    for radius in (2.0, 9.0, 20.0):
        levels = at_radius(clean, change, radius, budget, store, generator())
        # Squared norms on the grid are whole numbers.
        assert radius**2 - 1 - 0.001 * radius**2 <= radius_of(levels - clean, budget) ** 2 <= radius**2
        assert bool(((levels - clean) * change >= 0).all())
    assert radius_of(change, budget) == float(change.norm() if budget.norm == "l2" else change.abs().max())

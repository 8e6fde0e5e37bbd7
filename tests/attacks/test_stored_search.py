"""What a minimum-norm search found survives its storage, as near as the grid of 8 bits allows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_ray.attacks import Budget, make_attack
from stl_ray.attacks.stored_search import search_radii
from stl_ray.errors import ConfigError
from stl_ray.images import quantize
from stl_ray.models import predict

SEARCHES = {
    "deepfool": {},
    "fab": {"steps": 15, "restarts": 1},
    "fab_t": {"steps": 15, "restarts": 1, "targets": 2},
    "cw": {"steps": 100, "binary_search_steps": 4},
    "LinfDeepFoolAttack": {"steps": 20},
    "DDNAttack": {"steps": 20},
}
"""Every minimum-norm method, and two of Foolbox's, whose others go the same way."""


def radii(start: float, largest: float, step: float, wrong_from: float) -> tuple[list[float], float | None]:
    """The radii tried where images are misclassified from one on; and the smallest of these."""
    search = search_radii(start, largest, step)
    tried, held = [next(search)], None
    while True:
        misclassified = tried[-1] >= wrong_from
        held = tried[-1] if misclassified else held
        try:
            tried.append(search.send(misclassified))
        except StopIteration:
            return tried, held


@given(st.floats(0.01, 50), st.floats(0.01, 100), st.floats(0.01, 200), st.booleans(), st.sampled_from([0.0, 0.25]))
@settings(max_examples=300, deadline=None)
def test_certificate_the_least_radius_is_found_to_a_step(start, largest, wrong_from, whole, least):
    if whole:
        start, largest, step = -(-start // 1), max(largest // 1, 1), 1
    else:
        step = max(0.01 * start, least)
    tried, held = radii(start, largest, step, wrong_from)
    assert max(tried) <= largest and tried[0] == min(start, largest)
    assert len(tried) <= 30
    assert not whole or all(radius == radius // 1 for radius in tried)
    if wrong_from > largest:
        assert held is None and tried[-1] == largest
    else:
        assert wrong_from <= held <= max(min(start, largest), wrong_from + max(step, 0.01 * wrong_from) * (1 + 1e-9))


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("kind", ["l2", "linf"])
def test_certificate_what_is_found_in_float_is_found_in_8_bits(name, kind, victim, images, labels):
    method = make_attack(name, SEARCHES[name], "foolbox" if name.endswith("Attack") else "native")
    budget = Budget(kind=kind, size={"l2": 3.0, "linf": 16 / 255}[kind])
    try:
        method.check(budget, "u8")
    except ConfigError:
        return  # another norm
    ids = [f"test/{index}" for index in range(len(images))]

    def attacked(store):
        return method(victim, images, labels, budget=budget, ids=ids, seed=0, store=store)

    exact, stored = attacked("f32"), attacked("u8")
    distance = (lambda result: result.l2) if kind == "l2" else (lambda result: result.linf)
    # With room for the grid: one level in L_inf, in L2 the tenth that a direction loses by its rounding at most.
    near = exact.success & (distance(exact) <= budget.size - (1.001 / 255 if kind == "linf" else 0.1 * budget.size))
    assert int(near.sum()) >= 8
    assert bool(stored.success[near].all())
    for result in (exact, stored):
        ok = torch.tensor([status == "ok" for status in result.status])
        assert torch.equal(ok, result.success)  # the labels are the victim's
        assert torch.equal(result.success, predict(victim, result.images) != labels)
        assert bool((distance(result) <= budget.size * (1 + 1e-6)).all())
    assert torch.equal(quantize(stored.images), stored.images)
    farther = (distance(stored) - distance(exact))[near]
    assert float(farther.median()) <= (1.001 / 255 if kind == "linf" else 0.1 * float(distance(exact)[near].median()))

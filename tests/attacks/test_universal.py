import pytest
import torch

from stl_ray.attacks import Budget, fooling_rate, make_attack
from stl_ray.attacks.universal import vector_in_levels
from stl_ray.errors import ConfigError, TensorError

NAMES = ["uap", "uap_gradient"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", [Budget(kind="l2", size=6.0), Budget(kind="linf", size=28 / 255)], ids=str)
def test_certificate_one_vector_within_the_budget_fools_more_than_noise(name, budget, victim, images):
    images = images[:8]  # of one class, so that one direction suffices
    vector = make_attack(name, {"epochs": 20}).train(victim, images, budget=budget, seed=0)
    size = float(vector.norm() if budget.norm == "l2" else vector.abs().max())
    assert 0 < size <= budget.size * (1 + 1e-5)
    noise = torch.randn(vector.shape, generator=torch.Generator().manual_seed(0))
    noise = noise.sign() * budget.size if budget.norm == "linf" else noise / noise.norm() * budget.size
    assert fooling_rate(victim, images, vector) > fooling_rate(victim, images, noise)


@pytest.mark.parametrize("name", NAMES)
def test_invariant_training_repeats(name, victim, images):
    first, second = (
        make_attack(name, {"epochs": 1}).train(victim, images, budget=Budget(kind="l2", size=1.0), seed=3) for _ in "ab"
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("store", ["u8", "f32"])
def test_certificate_the_stored_vector_is_never_over_the_budget(store):
    vector = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0)) / 50
    for budget in (Budget(kind="l2", size=0.7), Budget(kind="l2", size=1.4, space="standardized")):
        levels = vector_in_levels(vector, budget, store, seed=0)
        norm = float((levels / 255 * budget.weights(levels)).norm())
        assert 0.98 * budget.size <= norm <= budget.size
        assert store == "f32" or torch.equal(levels, levels.round())


def test_refuses_to_run_without_a_vector_on_another_size_or_per_image(victim, images, labels):
    attack, budget = make_attack("uap", {}), Budget(kind="l2", size=1.0)
    ids = [str(index) for index in range(len(images))]
    with pytest.raises(ConfigError, match="not trained"):
        attack(victim, images, labels, budget=budget, ids=ids, seed=0)
    with pytest.raises(TensorError, match="another size"):
        attack.with_vector(torch.zeros(3, 8, 8))(victim, images, labels, budget=budget, ids=ids, seed=0)
    with pytest.raises(ConfigError, match="one vector has one norm"):
        attack.train(victim, images, budget=Budget(size=0.05), seed=0)

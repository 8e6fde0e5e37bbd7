import numpy as np
import pytest
import torch

from stl_ray.attacks import Budget, FixedBudget, MinimumNorm, make_attack
from stl_ray.errors import ConfigError

foolbox = pytest.importorskip("foolbox")
FREE = Budget(kind="l2", size=20.0)


def attack(method, victim, images, labels, rows=slice(None), *, budget=FREE, store="f32"):
    ids = [f"image/{index}" for index in range(len(images))][rows]
    return method(victim, images[rows], labels[rows], budget=budget, ids=ids, seed=1, store=store)


def test_agrees_with_foolbox_itself_on_each_image(victim, images, labels):
    method = make_attack("L2DeepFoolAttack", {"steps": 30}, "foolbox")
    assert isinstance(method, MinimumNorm)
    result = attack(method, victim, images, labels, slice(0, 24, 6))
    peer = foolbox.PyTorchModel(victim, bounds=(0, 1), device="cpu")
    for image, label, norm in zip(images[::6], labels[::6], result.l2, strict=True):
        theirs = foolbox.attacks.L2DeepFoolAttack(steps=30).run(peer, image[None], label[None])
        assert float(norm) == pytest.approx(float((theirs[0] - image).norm()), rel=1e-4)
    assert result.success.all()


def test_invariant_random_attacks_repeat_and_leave_global_states_alone(victim, images, labels):
    method = make_attack("HopSkipJumpAttack", {"steps": 1, "initial_gradient_eval_steps": 5}, "foolbox")
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    whole = attack(method, victim, images, labels, slice(0, 2))
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    alone = attack(method, victim, images, labels, slice(1, 2))
    assert torch.equal(whole.images[1:], alone.images)
    assert int(whole.queries.min()) > 10


def test_certificate_fixed_budget_attacks_end_at_the_budget(victim, images, labels):
    method = make_attack("L2ProjectedGradientDescentAttack", {"steps": 5}, "foolbox")
    assert isinstance(method, FixedBudget)
    result = attack(method, victim, images, labels, slice(0, 3), budget=Budget(size=0.05), store="u8")
    assert 0.049 <= float(result.dissimilarity.min()) <= float(result.dissimilarity.max()) <= 0.05


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("L2DeepFolAttack", {}, "L2DeepFoolAttack"),
        ("L2DeepFoolAttack", {"step": 3}, "steps"),
        ("L1BrendelBethgeAttack", {}, "no such attack"),
    ],
)
def test_refuses_names_and_options_that_foolbox_does_not_have(name, options, match):
    with pytest.raises(ConfigError, match=match):
        make_attack(name, options, "foolbox")


def test_refuses_a_budget_of_another_norm(victim, images, labels):
    method = make_attack("LinfDeepFoolAttack", {}, "foolbox")
    with pytest.raises(ConfigError, match="does not support the norm"):
        attack(method, victim, images, labels)

from itertools import pairwise

import pytest
import torch

from stl_ray.config.sections import TrainConfig
from stl_ray.training.classifier.recipe import average_of, learning_rate, sgd


def rates(steps: int, warmup: float) -> list[float]:
    config = TrainConfig(learning_rate=2.0, warmup=warmup)
    return [learning_rate(step, steps, config) for step in range(steps)]


def test_identity_rises_in_a_line_then_falls_to_zero():
    curve = rates(100, 0.1)
    assert curve[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert curve[10] == max(curve) == 2.0
    assert all(a > b for a, b in pairwise(curve[10:]))
    assert 0 < curve[-1] < 0.001


@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.999])
def test_agrees_with_torch_s_cosine(warmup):
    steps = 40
    rising = int(steps * warmup)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - rising)
    for rate in rates(steps, warmup)[rising:]:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_identity_one_step_is_the_peak():
    assert rates(1, 0.5) == [2.0]


def test_agrees_with_torch_s_steps():
    config = TrainConfig(learning_rate=2.0, warmup=0.0, schedule="step", milestones=(0.25, 0.5))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [10, 20])
    for step in range(40):
        assert learning_rate(step, 40, config) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_agrees_the_average_with_its_formula(classifier):
    average = average_of(classifier.backbone, 0.9)
    assert average_of(classifier.backbone, 0.0) is None
    expected = None
    for _ in range(3):
        with torch.no_grad():
            classifier.backbone[0].weight.add_(1.0)
        weight = classifier.backbone[0].weight.detach().clone()
        expected = weight if expected is None else 0.9 * expected + 0.1 * weight  # the first one as it is
        average.update_parameters(classifier.backbone)
    torch.testing.assert_close(average.module[0].weight, expected)


def test_identity_biases_and_norms_are_not_decayed(classifier):
    optimizer = sgd(classifier, TrainConfig(weight_decay=0.1))
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    for name, parameter in classifier.named_parameters():
        assert (id(parameter) in decayed) == (parameter.dim() > 1), name
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(classifier.parameters()))

"""Training on a CUDA device; run with `-m gpu` where there is one."""

import pytest
import torch

from stl_ray.config import AdversarialConfig, TrainConfig
from stl_ray.models import build_classifier
from stl_ray.training import train_classifier
from stl_ray.training.data.augmentation import augment

pytestmark = pytest.mark.gpu

NAMES = ["bright", "dark", "striped"]
CONFIG = TrainConfig(epochs=6, batch_size=16, crop_padding=2)


def test_agrees_with_the_cpu(toy):
    losses = []
    for device in ("cpu", "cuda"):
        classifier = build_classifier("small_cnn", NAMES, seed=0).to(device)
        losses.append([epoch.loss for epoch in train_classifier(classifier, toy, CONFIG, seed=0, validation=toy)])
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-3)
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.parametrize("more", [{}, {"random_resized_crop": 0.2, "colour_jitter": 0.3, "rand_augment": 9}])
def test_agrees_with_views_made_on_the_cpu(more, toy):
    config, ids = CONFIG.model_copy(update=more), toy.ids(range(60))
    cpu, gpu = (augment(toy.images.to(device), ids, config, seed=1, epoch=2).cpu() for device in ("cpu", "cuda"))
    off = (cpu.int() - gpu.int()).abs()
    # Where RandAugment multiplies or cuts colours, a level of rounding may become several.
    assert torch.equal(cpu, gpu) if not more else (off > 1).float().mean() < 0.02


def test_certificate_the_modern_recipe_learns(toy):
    modern = {
        "precision": "bfloat16",
        "channels_last": True,
        "compile": True,
        "ema": 0.9,
        "loaders": 2,
        "clip_norm": 5.0,
    }
    classifier = build_classifier("resnet18_small", NAMES, seed=0).cuda()
    config = CONFIG.model_copy(update={**modern, "epochs": 15})
    *_, last = train_classifier(classifier, toy, config, seed=0, validation=toy)
    assert last.validation_accuracy > 0.9


def test_invariant_resumed_goes_on_to_the_same_curve(toy):
    config = CONFIG.model_copy(update={"adversarial": AdversarialConfig(method="fast", linf=4)})
    first = build_classifier("small_cnn", NAMES, seed=0).cuda()
    undisturbed = list(train_classifier(first, toy, config, seed=0))
    second = build_classifier("small_cnn", NAMES, seed=1).cuda()
    resumed = list(train_classifier(second, toy, config, seed=0, state=undisturbed[1].state()))
    assert [epoch.loss for epoch in resumed] == pytest.approx([epoch.loss for epoch in undisturbed[2:]], rel=0.02)
    assert all(torch.isfinite(tensor).all() for tensor in second.state_dict().values())

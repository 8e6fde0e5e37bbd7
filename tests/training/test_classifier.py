import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from stl_ray.config.sections import TrainConfig
from stl_ray.errors import TrainingError
from stl_ray.images import from_uint8
from stl_ray.models import Classifier, build_classifier, predict
from stl_ray.seeding import seed_of
from stl_ray.training import train_classifier

CONFIG = TrainConfig(epochs=6, batch_size=16, crop_padding=2)
NAMES = ["bright", "dark", "striped"]


def with_dropout() -> Classifier:
    """A classifier whose training draws random numbers in its layers."""
    classifier = build_classifier("small_cnn", NAMES, seed=0)
    classifier.backbone.insert(len(classifier.backbone) - 1, nn.Dropout(0.3))
    return classifier


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_certificate_it_learns(classifier, toy):
    images, labels, ids = toy
    epochs = list(train_classifier(classifier, images, labels, ids, CONFIG, seed=0))
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3, 4, 5, 6]
    assert epochs[-1].loss < epochs[0].loss
    assert not classifier.training
    assert (predict(classifier, from_uint8(images)) == labels).float().mean() > 0.95
    assert epochs[0].row().keys() == {"epoch", "loss", "accuracy", "learning_rate", "seconds", "images_per_second"}


def test_agrees_with_steps_written_out(toy):
    """One batch per epoch, no augmentation, against torch's own SGD on the plain loss."""
    images, labels, ids = toy
    config = TrainConfig(
        epochs=3, batch_size=60, crop_padding=0, flip=False, warmup=0.0, label_smoothing=0.1, weight_decay=0.0
    )
    classifier, reference = (build_classifier("small_cnn", NAMES, seed=0) for _ in range(2))
    losses = [epoch.loss for epoch in train_classifier(classifier, images, labels, ids, config, seed=0)]
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    for loss in losses:
        expected = nn.CrossEntropyLoss(label_smoothing=0.1)(reference(images / 255), labels)
        assert loss == pytest.approx(expected.item(), rel=1e-4)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("stop", [1, 4])
def test_invariant_resumed_is_undisturbed_bit_for_bit(stop, toy, tmp_path):
    images, labels, ids = toy
    undisturbed = list(train_classifier(with_dropout(), images, labels, ids, CONFIG, seed=0))
    save_file(undisturbed[stop - 1].state(), tmp_path / "state.safetensors")
    fresh = build_classifier("small_cnn", NAMES, seed=9)
    fresh.backbone.insert(len(fresh.backbone) - 1, nn.Dropout(0.3))
    torch.rand(5)  # whatever else has drawn random numbers
    state = load_file(tmp_path / "state.safetensors")
    resumed = list(train_classifier(fresh, images, labels, ids, CONFIG, seed=0, state=state))
    assert [epoch.epoch for epoch in resumed] == [epoch.epoch for epoch in undisturbed[stop:]]
    assert same(resumed[-1].state(), undisturbed[-1].state())
    assert resumed[-1].loss == undisturbed[-1].loss


def test_identity_resuming_a_finished_training_does_nothing(classifier, toy):
    images, labels, ids = toy
    *_, last = train_classifier(classifier, images, labels, ids, CONFIG, seed=0)
    assert list(train_classifier(classifier, images, labels, ids, CONFIG, seed=0, state=last.state())) == []
    assert same(last.state(), last.state() | {f"model.{k}": v for k, v in classifier.backbone.state_dict().items()})


def test_invariant_global_generators_are_left_alone(toy):
    images, labels, ids = toy
    before = torch.random.get_rng_state()
    next(train_classifier(with_dropout(), images, labels, ids, CONFIG, seed=0))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_invariant_every_image_once_an_epoch_in_an_order_of_its_own():
    config = TrainConfig(epochs=3, batch_size=16, crop_padding=0, flip=False)
    classifier = build_classifier("small_cnn", ["all"], seed=0)
    images = torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1).expand(60, 3, 8, 8)  # each of its own grey
    ids = [str(i) for i in range(60)]
    seen: list[int] = []
    classifier.register_forward_pre_hook(lambda _, batch: seen.extend((batch[0][:, 0, 0, 0] * 255).round().tolist()))
    list(train_classifier(classifier, images, torch.zeros(60, dtype=torch.long), ids, config, seed=0))
    orders = {tuple(seen[start : start + 60]) for start in (0, 60, 120)}
    assert len(seen) == 180 and len(orders) == 3
    assert all(sorted(order) == list(range(60)) for order in orders)


def test_invariant_the_seed_matters(toy):
    images, labels, ids = toy
    losses = {
        next(train_classifier(build_classifier("small_cnn", NAMES, seed=0), images, labels, ids, CONFIG, seed=s)).loss
        for s in (0, 1)
    }
    assert len(losses) == 2


def work(folder: Path, rank: int, world_size: int) -> None:
    """One worker of `world_size` that meet in `folder`, trained on its images; the outcome is left there."""
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    for i, parameter in enumerate(backbone.parameters()):
        nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(i))
    model = Classifier(backbone, architecture="no batch norm", class_names=NAMES)
    if world_size > 1:
        distributed.init_process_group(
            "gloo", f"file://{folder}/meeting", rank=rank, world_size=world_size, timeout=timedelta(seconds=120)
        )
    try:
        wrapped = DistributedDataParallel(model) if world_size > 1 else model
        data = load_file(folder / "data.safetensors")
        ids = [str(i) for i in range(len(data["labels"]))]
        *_, last = train_classifier(
            wrapped, data["images"], data["labels"], ids, CONFIG, seed=0, rank=rank, world_size=world_size
        )
    finally:
        if world_size > 1:
            distributed.destroy_process_group()
    figures = {"loss": torch.tensor(last.loss), "accuracy": torch.tensor(last.accuracy)}
    save_file(last.state() | figures, folder / f"{rank}-of-{world_size}.safetensors")


def test_agrees_two_workers_with_one(toy, tmp_path):
    images, labels, _ = toy
    save_file({"images": images[:59], "labels": labels[:59]}, tmp_path / "data.safetensors")  # an odd batch among them
    other = (
        "import os, runpy; from pathlib import Path; "
        f"runpy.run_path({__file__!r})['work'](Path({str(tmp_path)!r}), 1, 2); "
        "os._exit(0)"  # gloo's threads now and then abort an interpreter that ends in order
    )
    with subprocess.Popen([sys.executable, "-c", other]) as process:
        work(tmp_path, 0, 1)
        work(tmp_path, 0, 2)
        assert process.wait(timeout=120) == 0
    one, first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("0-of-1", "0-of-2", "1-of-2"))
    assert same(first, second)
    for name, tensor in one.items():
        # The same sums in another order.
        torch.testing.assert_close(first[name], tensor, rtol=1e-4, atol=1e-5)


def test_refuses_a_loss_that_is_not_finite_and_names_the_images(classifier, toy):
    images, labels, ids = toy
    with torch.no_grad():
        classifier.backbone[-1].weight.fill_(torch.inf)
    with pytest.raises(TrainingError, match=r"epoch 1: the loss is not finite .* toy/.* and 7 more") as caught:
        next(train_classifier(classifier, images, labels, ids, CONFIG, seed=0))
    assert caught.value.expected is not None


def test_refuses_labels_that_are_no_class(classifier, toy):
    images, labels, ids = toy
    with pytest.raises(TrainingError, match="toy/02"):
        next(train_classifier(classifier, images, labels.where(labels < 2, 3), ids, CONFIG, seed=0))


def test_refuses_more_workers_than_images_of_a_batch(classifier, toy):
    images, labels, ids = toy
    config = CONFIG.model_copy(update={"batch_size": 4})
    with pytest.raises(TrainingError, match="no image of a batch"):
        next(train_classifier(classifier, images[:5], labels[:5], ids[:5], config, seed=0, world_size=3))


def test_refuses_another_model_s_state(classifier, toy):
    images, labels, ids = toy
    other = build_classifier("cifar_resnet20", NAMES, seed=seed_of(0, "other", "test"))
    state = next(train_classifier(other, images, labels, ids, CONFIG, seed=0)).state()
    with pytest.raises(TrainingError, match="not of this classifier"):
        next(train_classifier(classifier, images, labels, ids, CONFIG, seed=0, state=state))
    with pytest.raises(TrainingError, match="not of this classifier"):
        next(train_classifier(classifier, images, labels, ids, CONFIG, seed=0, state={}))

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from stl_ray.config import AdversarialConfig, TrainConfig
from stl_ray.errors import TrainingError
from stl_ray.images import from_uint8
from stl_ray.models import Classifier, build_classifier, predict
from stl_ray.seeding import seed_of
from stl_ray.training import Callbacks, EpochProgress, ImagesInMemory, Share, train_classifier, trained_weights
from stl_ray.training.classifier import loop

CONFIG = TrainConfig(epochs=6, batch_size=16, crop_padding=2)
RECIPE = CONFIG.model_copy(update={"ema": 0.9, "clip_norm": 1.0, "random_resized_crop": 0.3, "label_smoothing": 0.1})
NAMES = ["bright", "dark", "striped"]


def with_dropout() -> Classifier:
    """A classifier whose training draws random numbers in its layers."""
    classifier = build_classifier("small_cnn", NAMES, seed=0)
    classifier.backbone.insert(len(classifier.backbone) - 1, nn.Dropout(0.3))
    return classifier


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_certificate_it_learns(classifier, toy):
    epochs = list(train_classifier(classifier, toy, CONFIG, seed=0))
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3, 4, 5, 6]
    assert epochs[-1].loss < epochs[0].loss
    assert not classifier.training
    assert (predict(classifier, from_uint8(toy.images)) == toy.labels).float().mean() > 0.95
    figures = {"epoch", "loss", "accuracy", "learning_rate", "seconds", "images_per_second", "data_wait"}
    assert epochs[0].row().keys() == figures | {"validation_loss", "validation_accuracy"}


def test_agrees_with_steps_written_out(toy):
    """One batch per epoch, no augmentation, against torch's own SGD on the plain loss."""
    config = TrainConfig(
        epochs=3, batch_size=60, crop_padding=0, flip=False, warmup=0.0, label_smoothing=0.1, weight_decay=0.0
    )
    classifier, reference = (build_classifier("small_cnn", NAMES, seed=0) for _ in range(2))
    losses = [epoch.loss for epoch in train_classifier(classifier, toy, config, seed=0)]
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    for loss in losses:
        expected = nn.CrossEntropyLoss(label_smoothing=0.1)(reference(toy.images / 255), toy.labels)
        assert loss == pytest.approx(expected.item(), rel=1e-4)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        scheduler.step()


def test_invariant_the_device_augments_as_the_loaders_do(toy):
    """Bit for bit on a CPU, whose rounding is the loaders'."""
    config = RECIPE.model_copy(update={"colour_jitter": 0.2, "rand_augment": 5, "start_size": 8, "epochs": 2})
    curves = []
    for where in ("loaders", "device"):
        classifier = build_classifier("small_cnn", NAMES, seed=0)
        here = config.model_copy(update={"augment_on": where})
        curves.append([epoch.loss for epoch in train_classifier(classifier, toy, here, seed=0)])
    assert curves[0] == curves[1]


@pytest.mark.parametrize(("stop", "channels_last"), [(1, False), (4, False), (4, True)])
def test_invariant_resumed_is_undisturbed_bit_for_bit(stop, channels_last, toy, tmp_path):
    config = CONFIG.model_copy(update={"channels_last": channels_last})
    undisturbed = list(train_classifier(with_dropout(), toy, config, seed=0))
    save_file(undisturbed[stop - 1].state(), tmp_path / "state.safetensors")
    fresh = build_classifier("small_cnn", NAMES, seed=9)
    fresh.backbone.insert(len(fresh.backbone) - 1, nn.Dropout(0.3))
    torch.rand(5)  # whatever else has drawn random numbers
    state = load_file(tmp_path / "state.safetensors")
    resumed = list(train_classifier(fresh, toy, config, seed=0, state=state))
    assert [epoch.epoch for epoch in resumed] == [epoch.epoch for epoch in undisturbed[stop:]]
    assert same(resumed[-1].state(), undisturbed[-1].state())
    assert resumed[-1].loss == undisturbed[-1].loss


def test_refuses_weights_that_the_last_step_of_an_epoch_spoilt(classifier, toy):
    config = CONFIG.model_copy(update={"batch_size": 60, "learning_rate": 3e38, "weight_decay": 1e3, "warmup": 0.0})
    with pytest.raises(TrainingError, match=r"epoch 1 \S+weight: weights are not finite after the last step"):
        next(train_classifier(classifier, toy, config, seed=0))


def test_invariant_resumed_in_the_midst_of_an_epoch_is_undisturbed(toy, monkeypatch):
    """As when a machine announces its end: weights, averages and the figures of the epoch go on."""
    monkeypatch.setattr(loop, "LOOK_EVERY", 2)
    config = RECIPE.model_copy(update={"adversarial": AdversarialConfig(dissimilarity=0.05), "batch_size": 8})
    undisturbed = list(train_classifier(with_dropout(), toy, config, seed=0))
    saved: list[dict[str, torch.Tensor]] = []
    seen: list[EpochProgress] = []
    callbacks = Callbacks(seen.append, lambda: len(seen) == 6, saved.append)  # the second epoch, after its fourth batch
    list(train_classifier(with_dropout(), toy, config, seed=0, callbacks=callbacks))
    (state,) = saved
    assert (int(state["epoch"]), int(state["step"]), seen[5].epoch) == (1, 4, 2)
    resumed = list(train_classifier(with_dropout(), toy, config, seed=0, state=state))
    assert [epoch.epoch for epoch in resumed] == [2, 3, 4, 5, 6]
    for one, other in zip(resumed, undisturbed[1:], strict=True):
        assert same(one.state(), other.state())
        assert (one.loss, one.accuracy) == (other.loss, other.accuracy)


def test_invariant_loaders_change_nothing(toy):
    def run(loaders: int) -> list[dict[str, torch.Tensor]]:
        config = RECIPE.model_copy(update={"loaders": loaders, "epochs": 2, "rand_augment": 5, "colour_jitter": 0.2})
        classifier = build_classifier("small_cnn", NAMES, seed=0)
        return [epoch.state() for epoch in train_classifier(classifier, toy, config, seed=0, validation=toy)]

    for here, there in zip(run(0), run(2), strict=True):
        assert same(here, there)


def test_certificate_validation_sees_the_images_as_they_are_and_the_averaged_weights(classifier, toy):
    config = RECIPE.model_copy(update={"validate_every": 2, "epochs": 5})
    epochs = list(train_classifier(classifier, toy, config, seed=0, validation=toy))
    assert [epoch.validation_loss is not None for epoch in epochs] == [False, True, False, True, True]
    kept = build_classifier("small_cnn", NAMES, seed=0).eval()
    kept.backbone.load_state_dict(trained_weights(epochs[-1].state()))
    logits = kept.logits(from_uint8(toy.images))
    assert epochs[-1].validation_loss == pytest.approx(nn.functional.cross_entropy(logits, toy.labels).item(), rel=1e-4)
    assert epochs[-1].validation_accuracy == pytest.approx((logits.argmax(1) == toy.labels).float().mean().item())
    last = classifier.logits(from_uint8(toy.images))
    assert not torch.allclose(last, logits)  # the average is not the last step's weights


@pytest.mark.parametrize(
    "recipe",
    [
        {"precision": "bfloat16"},
        {"channels_last": True},
        {"mixup": 0.2, "cutmix": 1.0},
        {"schedule": "step", "clip_norm": 0.5},
        {"start_size": 8, "random_resized_crop": 0.5},
        {"adversarial": AdversarialConfig(method="pgd", linf=8, steps=2)},
        {"adversarial": AdversarialConfig(method="fast", linf=8)},
    ],
    ids=lambda recipe: next(iter(recipe)),
)
def test_certificate_every_recipe_learns(recipe, toy):
    config = CONFIG.model_copy(update={"epochs": 12, **recipe})
    classifier = build_classifier("small_cnn", NAMES, seed=0)
    *_, last = train_classifier(classifier, toy, config, seed=0, validation=toy)
    assert last.validation_accuracy > 0.9


@pytest.mark.faults  # where no compilation is kept, it takes a minute
def test_certificate_a_compiled_classifier_takes_the_same_steps(toy):
    config = CONFIG.model_copy(update={"epochs": 1})
    plain, compiled = (build_classifier("small_cnn", NAMES, seed=0) for _ in range(2))
    (expected,) = train_classifier(plain, toy, config, seed=0)
    (epoch,) = train_classifier(compiled, toy, config.model_copy(update={"compile": True}), seed=0)
    assert epoch.loss == pytest.approx(expected.loss, rel=1e-3)


def test_identity_resuming_a_finished_training_does_nothing(classifier, toy):
    *_, last = train_classifier(classifier, toy, CONFIG, seed=0)
    assert list(train_classifier(classifier, toy, CONFIG, seed=0, state=last.state())) == []
    assert same(last.state(), last.state() | {f"model.{k}": v for k, v in classifier.backbone.state_dict().items()})


def test_invariant_global_generators_are_left_alone(toy):
    before = torch.random.get_rng_state()
    next(train_classifier(with_dropout(), toy, CONFIG, seed=0))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_invariant_every_image_once_an_epoch_in_an_order_of_its_own():
    config = TrainConfig(epochs=3, batch_size=16, crop_padding=0, flip=False)
    classifier = build_classifier("small_cnn", ["all"], seed=0)
    images = torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1).expand(60, 3, 8, 8)  # each of its own grey
    ids = [str(i) for i in range(60)]
    seen: list[int] = []
    classifier.register_forward_pre_hook(lambda _, batch: seen.extend((batch[0][:, 0, 0, 0] * 255).round().tolist()))
    data = ImagesInMemory(images, torch.zeros(60, dtype=torch.long), ids)
    list(train_classifier(classifier, data, config, seed=0))
    orders = {tuple(seen[start : start + 60]) for start in (0, 60, 120)}
    assert len(seen) == 180 and len(orders) == 3
    assert all(sorted(order) == list(range(60)) for order in orders)


def test_invariant_the_seed_matters(toy):
    losses = {
        next(train_classifier(build_classifier("small_cnn", NAMES, seed=0), toy, CONFIG, seed=s)).loss for s in (0, 1)
    }
    assert len(losses) == 2


def work(folder: Path, rank: int, world_size: int) -> None:
    """One worker of `world_size` that meet in `folder`, trained on its images; the outcome is left there."""
    norm = nn.BatchNorm2d(8) if (folder / "batch norm").exists() else nn.Identity()
    head = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3), norm, *head)
    for i, parameter in enumerate(backbone.parameters()):
        nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(i))
    model = Classifier(backbone, architecture="tiny", class_names=NAMES)
    if world_size > 1:
        distributed.init_process_group(
            "gloo", f"file://{folder}/meeting", rank=rank, world_size=world_size, timeout=timedelta(seconds=120)
        )
    try:
        wrapped = DistributedDataParallel(model) if world_size > 1 else model
        data = load_file(folder / "data.safetensors")
        ids = [str(i) for i in range(len(data["labels"]))]
        images = ImagesInMemory(data["images"], data["labels"], ids)
        share = Share(rank, world_size)
        *_, last = train_classifier(wrapped, images, RECIPE, seed=0, share=share, validation=images)
    finally:
        if world_size > 1:
            distributed.destroy_process_group()
    figures = {
        name: torch.tensor(value) for name, value in last.row().items() if "second" not in name and name != "data_wait"
    }
    save_file(last.state() | figures, folder / f"{rank}-of-{world_size}.safetensors")


def test_agrees_two_workers_with_one(toy, tmp_path):
    save_file(
        {"images": toy.images[:59], "labels": toy.labels[:59]}, tmp_path / "data.safetensors"
    )  # an odd batch among them
    work(tmp_path, 0, 1)
    both_work(tmp_path)
    one, first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("0-of-1", "0-of-2", "1-of-2"))
    assert same(first, second)
    for name, tensor in one.items():
        # The same sums in another order.
        torch.testing.assert_close(first[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.faults
def test_invariant_both_workers_have_the_running_statistics_that_are_kept(toy, tmp_path):
    save_file({"images": toy.images, "labels": toy.labels}, tmp_path / "data.safetensors")
    (tmp_path / "batch norm").touch()
    both_work(tmp_path)
    first, second = (load_file(tmp_path / f"{rank}-of-2.safetensors") for rank in (0, 1))
    assert "model.1.running_mean" in first and "average.module.1.running_mean" in first
    assert same(first, second)  # the figures of validation, which sees them, among them


def test_invariant_what_ranks_share_is_on_the_device_where_they_train(toy, monkeypatch):
    """The average's counter of steps is on the CPU, where nccl does not reach."""
    shared: list[int] = []
    monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, src: shared.append(tensor.data_ptr()))
    classifier = build_classifier("small_cnn", NAMES, seed=0)
    parts = (classifier, toy, RECIPE, 0, None, None, Share(), Callbacks())
    training = loop._Training(*parts)
    training._share_statistics()
    statistics = [*classifier.backbone.buffers(), *training.average.module.buffers()]
    assert shared == [statistic.data_ptr() for statistic in statistics]
    assert training.average.n_averaged.data_ptr() not in shared


def both_work(folder: Path) -> None:
    """`work` of two workers, one of them here."""
    other = (
        "import os, runpy; from pathlib import Path; "
        f"runpy.run_path({__file__!r})['work'](Path({str(folder)!r}), 1, 2); "
        "os._exit(0)"  # gloo's threads now and then abort an interpreter that ends in order
    )
    with subprocess.Popen([sys.executable, "-c", other]) as process:
        work(folder, 0, 2)
        assert process.wait(timeout=120) == 0


def test_refuses_a_loss_that_is_not_finite_and_names_the_images(classifier, toy):
    with torch.no_grad():
        classifier.backbone[-1].weight.fill_(torch.inf)
    with pytest.raises(
        TrainingError, match=r"epoch 1 step 1: the loss is not finite for 15 of the 15 .* toy/.* and 7 more"
    ) as caught:
        next(train_classifier(classifier, toy, CONFIG, seed=0))
    assert caught.value.expected is not None


def test_refuses_a_loss_that_is_not_finite_by_the_step_that_had_it_first(toy):
    """Looked at some steps later, when the weights are lost already."""

    class Bad(ImagesInMemory):
        def pixels(self, indices):
            seen.append(indices)
            return super().pixels(indices)

    seen: list[list[int]] = []
    classifier = build_classifier("small_cnn", NAMES, seed=0)
    backbone = classifier.backbone

    class Poisoned(nn.Module):
        def forward(self, x):
            logits = backbone(x)
            return logits * torch.where(torch.arange(len(x)) == 3, torch.nan, 1.0)[:, None] if len(seen) > 1 else logits

    classifier.backbone = Poisoned()
    classifier.backbone.inner = backbone
    with pytest.raises(TrainingError, match="epoch 1 step 2: the loss is not finite for 1 of the 15") as caught:
        next(train_classifier(classifier, Bad(toy.images, toy.labels, toy.image_ids), CONFIG, seed=0))
    assert toy.image_ids[seen[1][3]] in caught.value.message


def poisoned(folder: Path, rank: int) -> str:
    """The error of one of two workers that meet in `folder`, of which the second has a bad image."""
    classifier = build_classifier("small_cnn", NAMES, seed=0)
    distributed.init_process_group(
        "gloo", f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    data = load_file(folder / "data.safetensors")
    images = ImagesInMemory(data["images"], data["labels"], [f"image {i}" for i in range(60)])
    if rank == 1:
        classifier.register_forward_hook(lambda module, inputs, logits: logits * torch.nan)
    try:
        list(train_classifier(DistributedDataParallel(classifier), images, CONFIG, seed=0, share=Share(rank, 2)))
    except TrainingError as error:
        (folder / f"{rank}.txt").write_text(str(error))
        return str(error)
    finally:
        distributed.destroy_process_group()
    return ""


@pytest.mark.faults
def test_invariant_both_workers_stop_with_the_same_error(toy, tmp_path):
    """Neither is left waiting for the other's gradients."""
    save_file({"images": toy.images, "labels": toy.labels}, tmp_path / "data.safetensors")
    other = (
        "import os, runpy; from pathlib import Path; "
        f"runpy.run_path({__file__!r})['poisoned'](Path({str(tmp_path)!r}), 1); os._exit(0)"
    )
    with subprocess.Popen([sys.executable, "-c", other]) as process:
        error = poisoned(tmp_path, 0)
        assert process.wait(timeout=120) == 0
    assert error == (tmp_path / "1.txt").read_text()
    assert "epoch 1 step 1: the loss is not finite for 7 of the 15 images of a batch: image " in error


def test_refuses_labels_that_are_no_class(classifier, toy):
    with pytest.raises(TrainingError, match="toy/02"):
        next(train_classifier(classifier, replace(toy, labels=toy.labels.where(toy.labels < 2, 3)), CONFIG, seed=0))


def test_refuses_more_workers_than_images_of_a_batch(classifier, toy):
    config = CONFIG.model_copy(update={"batch_size": 4})
    with pytest.raises(TrainingError, match="no image of a batch"):
        next(
            train_classifier(
                classifier,
                ImagesInMemory(toy.images[:5], toy.labels[:5], toy.image_ids),
                config,
                seed=0,
                share=Share(0, 3),
            )
        )


def test_refuses_another_model_s_state(classifier, toy):
    other = build_classifier("cifar_resnet20", NAMES, seed=seed_of(0, "other", "test"))
    state = next(train_classifier(other, toy, CONFIG, seed=0)).state()
    with pytest.raises(TrainingError, match="not of this classifier"):
        next(train_classifier(classifier, toy, CONFIG, seed=0, state=state))
    with pytest.raises(TrainingError, match="not of this classifier"):
        next(train_classifier(classifier, toy, CONFIG, seed=0, state={}))

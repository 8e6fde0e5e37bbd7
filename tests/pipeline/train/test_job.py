"""The plan of a training, and what is refused before any worker; no Ray starts."""

import json
import warnings

import pytest
import torch

from stl_ray.errors import ArtifactError, AuditError, ConfigError, StorageError, TrainingError
from stl_ray.images import image_schema
from stl_ray.models import build_classifier
from stl_ray.pipeline.batches import plan_parts
from stl_ray.pipeline.defenses import make_defenses
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.pipeline.project import identity_of
from stl_ray.pipeline.purify import purify_table
from stl_ray.pipeline.train import job as train
from stl_ray.runtime import ray_train
from stl_ray.store import Run, Storage


def _finished(root, folder, plan, identity, tables):
    run = Run.open(root, folder)
    run.start(plan, identity=identity, environment={})
    for shard, table in zip(plan, tables, strict=True):
        run.publish(shard, table, [], seconds=0, attempt=1, environment={})
    run.finish(max_quarantined=0)


@pytest.fixture
def ingested(experiment_of, image_tables, finished_run, crops):
    """Makes an experiment with ingested splits; keys of train, the classifier's, and the class names of the test split."""

    def make(names=("a", "b"), classifier=None, **training):
        vanilla = {"name": "vanilla", "architecture": "small_cnn", "recipe": {}, **(classifier or {})}
        experiment = experiment_of(classifiers=[vanilla], train={"epochs": 1, **training})
        finished_run(experiment, "ingest/train", *image_tables(crops(6), 4, 2))
        (table,) = image_tables(crops(4), 4)
        finished_run(experiment, "ingest/test", table.cast(image_schema("image", names)))
        return experiment

    return make


def test_refuses_weights_of_another_number_of_classes_before_any_worker(ingested, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(build_classifier("small_cnn", ["a", "b", "c"], seed=0).backbone.state_dict(), path)
    with pytest.raises(ArtifactError, match="small_cnn with 2 classes"):
        train.run(ingested(classifier={"weights": str(path)}))
    with pytest.raises(StorageError, match="no such file"):
        train.run(ingested(classifier={"weights": str(tmp_path / "missing.pth")}))


def test_refuses_validation_images_of_other_classes(ingested):
    with pytest.raises(TrainingError, match=r"ingest/test: .*other classes.* expected 2 classes: a, b; got 3: a, b, c"):
        train.run(ingested(names=("a", "b", "c")))


def test_refuses_a_dataset_whose_manifest_fails_its_audit(ingested):
    experiment = ingested()
    path = dataset_of(experiment.root, "ingest/train").storage.folder / "MANIFEST.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "rows": 7}))
    with pytest.raises(AuditError, match="its parts have 6 rows, not 7"):
        train.run(experiment)


def test_refuses_published_weights_that_do_not_exist(ingested):
    with pytest.raises(ConfigError, match="unknown weights of torchvision"):
        train.run(
            ingested(classifier={"architecture": "torchvision:resnet18", "weights": "ResNet18_Weights.IMAGENET9"})
        )


def test_refuses_images_that_the_network_cannot_take_before_any_worker(ingested):
    with pytest.raises(TrainingError, match=r"vit_b_16: .* got 24 x 24 pixels"):
        train.run(ingested(classifier={"architecture": "torchvision:vit_b_16"}))


def test_certificate_a_training_that_does_not_go_on_from_what_is_there_says_so(ingested):
    experiment = ingested()
    (training,) = train.plan(experiment)
    storage = Storage.open(experiment.root).below(training.folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train._tell_of_other_settings(experiment, training)
        storage.write(ray_train.checkpoint_of(training.identity), b"")
        train._tell_of_other_settings(experiment, training)
    (other,) = train.plan(ingested(ema=0.5))
    with pytest.warns(UserWarning, match=r"train/vanilla: a training with other settings .* begins at the first epoch"):
        train._tell_of_other_settings(experiment, other)


@pytest.mark.parametrize("earlier", [0, 9])
def test_invariant_deaths_count_only_without_an_epoch_more(tmp_path, monkeypatch, earlier):
    """A week of training may see many; a training that gets nowhere ends. Epochs of other settings count for nothing."""
    storage, identity = Storage.open(str(tmp_path)), {"learning_rate": 0.1}
    monkeypatch.setattr(ray_train, "rank_and_world_size", lambda: (0, 1))
    monkeypatch.setattr(ray_train.ray_train, "report", lambda row: None)

    def train_up_to(epochs, identity):
        ray_train.report({"w": torch.zeros(2)}, [{"epoch": n} for n in range(epochs)], storage, identity)

    epochs = iter([1, 4, 4])

    def deaths(*_):
        train_up_to(next(epochs), identity)
        return RuntimeError("killed")

    if earlier:
        train_up_to(earlier, {"learning_rate": 0.2})
    monkeypatch.setattr(ray_train, "_deaths", deaths)
    monkeypatch.setattr(ray_train, "_failure", lambda *_: None)
    workers = ray_train.Workers(1, 1, gpu=False)
    with pytest.raises(TrainingError, match=r"vanilla: training failed \(killed\)"):
        ray_train.fit(print, {}, workers, name="vanilla", storage=storage, identity=identity)
    assert list(epochs) == []


def test_identity_what_names_a_training(ingested):
    """What can change weights does; where and how they are computed does not."""
    (base,) = train.plan(ingested())
    for key, value in (("loaders", 2), ("cpus_per_worker", 4), ("scratch", "/tmp/x"), ("workers", 2), ("gpu", True)):
        (other,) = train.plan(ingested(**{key: value}))
        assert other.identity == base.identity, key
    for key, value in (("ema", 0.9), ("adversarial", {"linf": 8}), ("learning_rate", 0.2), ("batch_size", 3)):
        (other,) = train.plan(ingested(**{key: value}))
        assert other.identity != base.identity, key


def test_identity_what_a_classifier_is_validated_on(experiment_of, image_tables, finished_run, crops):
    """On its defense's output of the test split, where that is there and made with the settings at hand."""
    jpeg = [{"name": "jpeg", "defense": "jpeg", "options": {"quality": 50}}]
    retrained_keys = {"name": "vanilla", "architecture": "small_cnn", "retrain": {}}
    splits = {"splits": ["train", "test"]}
    experiment = experiment_of(defenses=jpeg, classifiers=[retrained_keys], train={"epochs": 1}, project=splits)
    tables = image_tables(crops(4), 4)
    clean = {split: finished_run(experiment, f"ingest/{split}", *tables) for split in ("train", "test")}
    defense = make_defenses(experiment)["jpeg"]

    def purify(split):
        purified = purify_table(defense, tables[0], seed=0, exclude_self=False, device="cpu").table
        identity = identity_of(defense, clean[split], split, 0)
        _finished(experiment.root, f"project/jpeg-{split}", plan_parts(clean[split]), identity, [purified])

    purify("train")
    vanilla, retrained = train.plan(experiment)
    assert (vanilla.validation, retrained.validation) == ("ingest/test", None)
    purify("test")
    assert train.plan(experiment)[1].validation == "project/jpeg-test"
    through = {**retrained_keys, "retrain": {"projection": "on_the_fly"}}
    behind = experiment_of(defenses=jpeg, classifiers=[through], train={"epochs": 1}, project=splits)
    vanilla, retrained = train.plan(behind)
    assert (retrained.dataset, retrained.validation, retrained.behind) == ("ingest/train", "ingest/test", True)
    assert retrained.identity["defense"] == defense.identity() and "defense" not in vanilla.identity


def test_identity_a_retraining_begins_as_the_classifier_that_it_names(experiment_of, image_tables, finished_run, crops):
    """Of one that is trained here its own identity, since it has no weights yet; of one that is given its weights."""
    jpeg = [{"name": "jpeg", "defense": "jpeg"}]

    def planned(**retrain):
        classifiers = [
            {"name": "first", "architecture": "small_cnn"},
            {"name": "second", "architecture": "small_cnn", "retrain": {"projection": "on_the_fly", **retrain}},
        ]
        return experiment_of(defenses=jpeg, classifiers=classifiers, train={"epochs": 4})

    experiment = planned(start="first", epochs=2, learning_rate=0.01)
    for split in ("train", "test"):
        finished_run(experiment, f"ingest/{split}", *image_tables(crops(4), 4))
    first, second, retrained = train.plan(experiment)
    assert [training.name for training in (first, second, retrained)] == ["first", "second", "second-for-jpeg"]
    assert (first.config.epochs, retrained.config.epochs, retrained.config.learning_rate) == (4, 2, 0.01)
    assert (first.start, retrained.start, retrained.identity["start"]) == (None, "first", first.identity)
    anew = train.plan(planned(epochs=2, learning_rate=0.01))[2]
    assert (anew.start, anew.identity["start"]) == (None, None)
    assert first.identity == second.identity != retrained.identity


def test_invariant_a_defense_that_nothing_is_retrained_for_is_not_asked_for(
    experiment_of, image_tables, finished_run, crops
):
    """Its space need not be there."""
    retrain = {"projection": "on_the_fly", "defenses": ["jpeg"]}
    experiment = experiment_of(
        spaces=[{"name": "natural"}],
        defenses=[{"name": name, "defense": name} for name in ("stl", "jpeg")],
        classifiers=[{"name": "vanilla", "architecture": "small_cnn", "retrain": retrain}],
    )
    for split in ("train", "test"):
        finished_run(experiment, f"ingest/{split}", *image_tables(crops(4), 4))
    assert [training.name for training in train.plan(experiment)] == ["vanilla", "vanilla-for-jpeg"]


def test_without_test_images_nothing_is_validated(experiment_of, finished_run, image_tables, crops):
    experiment = experiment_of(ingest={"train": {"format": "photographs"}})
    finished_run(experiment, "ingest/train", *image_tables(crops(70), 70))
    (training,) = train.plan(experiment)
    assert training.validation is None
    train.require_sound(experiment, training)

"""Every configuration that ships: loaded, preflighted and planned on small data of its format."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stl_ray.cli import main
from stl_ray.config import Recipe, load_experiment
from stl_ray.images.readers import open_reader
from stl_ray.models import build_classifier, load
from stl_ray.pipeline.preflight import preflight
from stl_ray.store import Dataset
from stl_ray.training import ImagesInMemory, train_classifier, trained_weights

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def _tree(folder: Path, per_class: int, side: int = 40) -> Path:
    generator = np.random.default_rng(0)
    for name in ("n01", "n02"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            pixels = generator.integers(0, 256, (side, side + 10, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.jpg")
    return folder


def _cifar(folder: Path) -> Path:
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3072), dtype=np.uint8)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = {b"data": pixels, b"labels": list(range(10)), b"filenames": [b"x.png"] * 10}
        (folder / name).write_bytes(pickle.dumps(batch))
    return folder


def _data_for(path: Path, folder: Path) -> list[str]:
    """Overrides that put small data of the right format where the configuration expects its own."""
    source = load_experiment(str(path)).ingest.train
    if source.format == "photographs":
        return []
    place = _cifar(folder / "data") if source.format == "cifar10" else _tree(folder / "data", 5)
    return [f"ingest.train.path={place}", f"ingest.test.path={place}"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_are_sound(path, tmp_path):
    experiment = load_experiment(str(path), [f"root={tmp_path}/root", *_data_for(path, tmp_path)])
    preflight(experiment)
    for split in ("train", "test"):
        source = experiment.ingest.train if split == "train" else experiment.ingest.test
        shards = list(open_reader(source, split=split).plan(experiment.ingest.shard_size))
        assert sum(shard.rows for shard in shards) >= 10
        assert all(shard.rows <= experiment.ingest.shard_size for shard in shards)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_recipe_takes_a_step(path):
    """On a CPU and uncompiled, at the experiment's size: its keys work together."""
    experiment = load_experiment(str(path))
    side = experiment.ingest.size or 32
    pixels = torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImagesInMemory(pixels, torch.tensor([0, 1, 0, 1]), ["a", "b", "c", "d"])
    here = {"epochs": 1, "compile": False, "gpu": False, "loaders": 0}
    for item in experiment.classifiers:
        recipe = {name: getattr(item.recipe, name) for name in Recipe.model_fields}
        config = experiment.train.model_copy(update=recipe | here)
        classifier = build_classifier(item.architecture, ["one", "two"], seed=0)
        (epoch,) = train_classifier(classifier, images, config, seed=0, validation=images)
        assert epoch.validation_loss is not None
        assert all(tensor.isfinite().all() for tensor in trained_weights(epoch.state()).values())


@pytest.mark.slow
@pytest.mark.ray
def test_imagenet_at_224_through_ingest_and_one_training_step(local_ray, tmp_path):
    config = str(next(path for path in CONFIGS if path.stem == "imagenet"))
    paths = [f"ingest.{split}.path={_tree(tmp_path / split, 2, side=240)}" for split in ("train", "test")]
    small = [f"root={tmp_path}/root", *paths, "ray.cpus_per_actor=1"]
    one_step = [
        "train.workers=1",
        "train.min_workers=1",
        "train.cpus_per_worker=2",
        "train.gpu=false",
        "train.epochs=1",
        "classifiers.0.retrain=null",
    ]
    assert main(["ingest", config, *small]) == 0
    dataset = Dataset.open(str(tmp_path / "root" / "ingest" / "train"))
    assert dataset.rows == 4
    assert main(["train", config, *small, *one_step]) == 0
    classifier = load(str(tmp_path / "root" / "train" / "resnet50"))
    assert classifier.architecture == "torchvision:resnet50"
    assert list(classifier.class_names) == ["n01", "n02"]

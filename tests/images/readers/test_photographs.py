from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from stl_ray.config import Source
from stl_ray.errors import InputError
from stl_ray.images.readers import open_reader, photographs
from stl_ray.images.readers.photographs import PhotographsReader


def crops(split, limit=None, shard_size=400):
    reader = PhotographsReader(split, limit)
    return [image for shard in reader.plan(shard_size) for image in reader.read(shard.source)]


@pytest.fixture(scope="module")
def dataset():
    return {split: crops(split) for split in ("train", "test")}


def test_identity_enough_balanced_small_images(dataset):
    assert len(dataset["train"]) >= 1500 and len(dataset["test"]) >= 400
    for split, images in dataset.items():
        counts = Counter(image.label for image in images)
        assert set(counts) == set(range(10)) and max(counts.values()) == min(counts.values())
        assert images[42].id == f"{split}/00042" and images[42].label == 2
        for image in images:
            assert image.data.shape == (32, 32, 3) and image.data.dtype == np.uint8 and image.problem is None
    assert len({image.id for images in dataset.values() for image in images}) == sum(map(len, dataset.values()))


def test_identity_train_and_test_pixels_are_disjoint(monkeypatch):
    # The real code, run on photographs whose pixels are their own column numbers.
    columns = {split: [set() for _ in range(10)] for split in ("train", "test")}
    reader = PhotographsReader("train")
    shapes = [photograph.shape for photograph in reader._photographs]
    for split, seen in columns.items():
        for index in range(600):
            label = index % 10
            height, width = shapes[label][:2]
            numbered = np.broadcast_to(np.arange(width)[None, :, None], (height, width, 3))
            window = photographs._window(f"{split}/{index:05d}/0", numbered, photographs._BANDS[split])
            assert window.shape[0] == window.shape[1] >= photographs.SIDE
            seen[label].update(np.unique(window).tolist())
    for label in range(10):
        assert not columns["train"][label] & columns["test"][label]
        used = len(columns["train"][label]) + len(columns["test"][label])
        assert used > 0.9 * shapes[label][1]


def test_invariant_crops_follow_from_their_ids_alone(dataset):
    expected = {image.id: image.data for image in dataset["test"]}
    few = crops("test", limit=23, shard_size=7)
    assert [image.id for image in few] == [f"test/{index:05d}" for index in range(23)]
    assert all(np.array_equal(image.data, expected[image.id]) for image in few)
    assert Counter(image.label for image in few) == {label: 2 + (label < 3) for label in range(10)}


def test_identity_crops_are_natural_images(dataset):
    # Natural images: neighbours agree far better than pixels further away, and few crops are flat.
    pixels = np.stack([image.data for image in dataset["train"]]).astype(float) / 255
    near = np.square(np.diff(pixels, axis=2)).mean()
    far = np.square(pixels[:, :, 16:] - pixels[:, :, :16]).mean()
    assert near < far / 2
    assert (pixels.std(axis=(1, 2)).max(axis=1) < 5 / 255).mean() < 0.01


def test_invariant_plan_adds_up_and_digests_tell_shards_and_splits_apart():
    plan = list(PhotographsReader("train").plan(300))
    assert [shard.rows for shard in plan] == [300] * 5 + [100]
    assert plan == list(PhotographsReader("train").plan(300))
    digests = {shard.digest for split in ("train", "test") for shard in PhotographsReader(split).plan(300)}
    assert len(digests) == 8


def test_refuses_a_wheel_without_the_photographs(monkeypatch, tmp_path):
    monkeypatch.setattr(photographs, "files", lambda package: Path(tmp_path))
    with pytest.raises(InputError, match=r"astronaut\.png"):
        list(open_reader(Source(format="photographs"), split="train").plan(10))


@pytest.mark.slow
def test_agrees_classes_can_be_learned_on_disjoint_regions(dataset):
    """The quickstart's classifier and recipe, seeded: 0.89 where this was written."""
    import torch

    from stl_ray.config import TrainConfig
    from stl_ray.images import to_tensor
    from stl_ray.models import build_classifier, predict
    from stl_ray.training import ImagesInMemory, train_classifier

    train = torch.stack([torch.from_numpy(image.data) for image in dataset["train"]]).permute(0, 3, 1, 2).contiguous()
    labels = {split: torch.tensor([image.label for image in rows]) for split, rows in dataset.items()}
    classifier = build_classifier("small_cnn", [str(label) for label in range(10)], seed=0)
    ids = [image.id for image in dataset["train"]]
    images = ImagesInMemory(train, labels["train"], ids)
    for _ in train_classifier(classifier, images, TrainConfig(epochs=15), seed=0):
        pass
    predicted = predict(classifier, to_tensor([image.data for image in dataset["test"]]))
    accuracy = (predicted == labels["test"]).float().mean()
    assert accuracy >= 0.8

import pytest
import torch

from stl_ray.config import TrainConfig
from stl_ray.errors import TrainingError
from stl_ray.models import build_classifier
from stl_ray.training import require_parts, require_sizes

NAMES = ["a", "b"]


def test_refuses_sizes_that_a_network_cannot_take_and_leaves_its_mode():
    classifier = build_classifier("torchvision:alexnet", NAMES, seed=0).train()
    require_sizes(classifier, TrainConfig(), (224, 224))
    with pytest.raises(TrainingError, match=r"torchvision:alexnet: .*; expected .*; got 32 x 32 pixels"):
        require_sizes(classifier, TrainConfig(), (32, 32))
    with pytest.raises(TrainingError, match="got 32 x 32 pixels"):
        require_sizes(classifier, TrainConfig(start_size=32), (224, 224))
    assert classifier.training


@pytest.mark.parametrize(
    ("recipe", "images", "message"),
    [
        (
            {"batch_size": 1},
            4,
            "expected batch_size=2; got 4 images in 4 batches, the smallest of 1 for 1 workers",
        ),
        (
            {"batch_size": 2},
            5,
            "expected batch_size=3; got 5 images in 3 batches, the smallest of 1 for 1 workers",
        ),
        (
            {"batch_size": 2, "workers": 2},
            8,
            "expected batch_size=4; got 8 images in 4 batches, the smallest of 2 for 2",
        ),
        (
            {"batch_size": 4, "workers": 2},
            7,
            "expected batch_size=7; got 7 images in 2 batches, the smallest of 3 for 2",
        ),
        ({"batch_size": 9, "workers": 3}, 5, "expected fewer train.workers, or more images; got 5 images in 1 batches"),
    ],
)
def test_refuses_batches_that_leave_batch_norm_one_value(recipe, images, message):
    classifier = build_classifier("torchvision:resnet18", NAMES, seed=0)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    with pytest.raises(
        TrainingError, match=f"resnet18: batch norm would be left with one value per channel; {message}"
    ):
        require_parts(classifier, TrainConfig(**recipe), (32, 32), images)
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    require_parts(classifier, TrainConfig(**recipe), (64, 64), images)  # its last map is 2 x 2
    fixed = message.partition("batch_size=")[2].partition(";")[0]
    if fixed:
        require_parts(classifier, TrainConfig(**{**recipe, "batch_size": int(fixed)}), (32, 32), images)


def test_refuses_a_small_first_size_and_workers_without_an_image():
    classifier = build_classifier("torchvision:resnet18", NAMES, seed=0)
    with pytest.raises(TrainingError, match="one value per channel"):
        require_parts(classifier, TrainConfig(batch_size=1, start_size=32), (64, 64), 4)
    with pytest.raises(TrainingError, match=r"no image of a batch; expected fewer train\.workers"):
        require_parts(classifier, TrainConfig(workers=4), (64, 64), 3)
    require_parts(build_classifier("torchvision:alexnet", NAMES, seed=0), TrainConfig(batch_size=1), (64, 64), 4)

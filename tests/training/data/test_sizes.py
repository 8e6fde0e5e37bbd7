import pytest

from stl_ray.config import TrainConfig
from stl_ray.errors import TrainingError
from stl_ray.models import build_classifier
from stl_ray.training import require_sizes

NAMES = ["a", "b"]


def test_refuses_sizes_that_a_network_cannot_take_and_leaves_its_mode():
    classifier = build_classifier("alexnet", NAMES, seed=0).train()
    require_sizes(classifier, TrainConfig(), (224, 224))
    with pytest.raises(TrainingError, match=r"train\.classifier=alexnet: .*; expected .*; got 32 x 32 pixels"):
        require_sizes(classifier, TrainConfig(), (32, 32))
    with pytest.raises(TrainingError, match="got 32 x 32 pixels"):
        require_sizes(classifier, TrainConfig(start_size=32), (224, 224))
    assert classifier.training

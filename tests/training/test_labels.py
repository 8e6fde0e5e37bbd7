import pytest
import torch

from stl_ray.errors import TrainingError
from stl_ray.training import validate_labels

IDS = ["a", "b", "c", "d"]


def test_identity_fitting_labels_pass():
    validate_labels(torch.tensor([0, 1, 1, 0]), IDS, ["cat", "dog"])
    validate_labels(torch.tensor([0, 0, 0, 0]), IDS, ["cat"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, -1, -1, 0], r"b: 2 of 4 images have no label; expected 0 to 1 .*got -1"),
        ([0, 1, 2, 9], r"c: 2 of 4 images have a label that is not a class; .*got 2"),
        ([0, 1], "2 and 4"),
    ],
)
def test_refuses_labels_that_do_not_fit(labels, message):
    with pytest.raises(TrainingError, match=message):
        validate_labels(torch.tensor(labels), IDS, ["cat", "dog"])


def test_refuses_no_images():
    with pytest.raises(TrainingError, match="needs images"):
        validate_labels(torch.tensor([], dtype=torch.long), [], ["cat"])

import pytest
import torch

from stl_ray.errors import TrainingError
from stl_ray.training import balance, class_counts, validate_labels

IDS = ["a", "b", "c", "d"]


def ids(indices):
    return [IDS[index] for index in indices]


def test_identity_fitting_labels_pass():
    validate_labels(torch.tensor([0, 1, 1, 0]), ids, ["cat", "dog"])
    validate_labels(torch.tensor([0, 0, 0, 0]), ids, ["cat"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, -1, -1, 0], r"b: 2 of 4 images have no label; expected 0 to 1 .*got -1"),
        ([0, 1, 2, 9], r"c: 2 of 4 images have a label that is not a class; .*got 2"),
    ],
)
def test_refuses_labels_that_do_not_fit(labels, message):
    with pytest.raises(TrainingError, match=message):
        validate_labels(torch.tensor(labels), ids, ["cat", "dog"])


def test_refuses_no_images():
    with pytest.raises(TrainingError, match="needs images"):
        validate_labels(torch.tensor([], dtype=torch.long), ids, ["cat"])


@pytest.mark.parametrize(
    ("labels", "counts", "text"),
    [
        ([0, 1, 1, 0], [2, 2], "4 images of 2 classes, 2 each"),
        ([0, 1, 1, 1], [1, 3], "4 images of 2 classes, 1 to 3 each; WARNING: unbalanced"),
        ([1, 1], [0, 2], "2 images of 2 classes, 0 to 2 each; WARNING: no image of cat"),
    ],
)
def test_identity_balance_is_counted_and_said(labels, counts, text):
    assert class_counts(torch.tensor(labels), ["cat", "dog"]) == counts
    assert balance(counts, ["cat", "dog"]) == text
    assert class_counts(torch.tensor([*labels, -1, 2]), ["cat", "dog"]) == counts

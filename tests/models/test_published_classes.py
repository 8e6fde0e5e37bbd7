import pytest
from torchvision import models

import stl_ray.models.published_classes as module
from stl_ray.errors import ArtifactError
from stl_ray.models.published_classes import require_same_classes

THEIRS = models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
INDICES = [str(number) for number in range(1000)]


def swapped(names, first=3, second=500):
    names = list(names)
    names[first], names[second] = names[second], names[first]
    return names


@pytest.mark.parametrize(
    "names",
    [
        THEIRS,
        INDICES,
        [f"{number:04}" for number in range(1000)],
        [name.replace(" ", "_").upper() for name in THEIRS],
        [f"{name}, another word of it" for name in THEIRS],
        ["crane" if name == "crane bird" else name for name in THEIRS],
        ["worded otherwise", *THEIRS[1:]],
    ],
)
def test_agrees_with_the_same_classes_however_they_are_named(names):
    require_same_classes(names, THEIRS, "weights")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (THEIRS[::-1], "in another order; expected class 0 to be tench .* got toilet tissue"),
        (swapped(THEIRS), "in another order; expected class 3 to be tiger shark"),
        (sorted(INDICES), r"expected class 2 to be 2 \(class_order: number.* got 10"),
        (swapped(INDICES), "expected class 3 to be 3"),
        ([str(number) for number in range(1, 1001)], r"cannot be compared .* got 1, 2, 3"),
        ([f"class {number}" for number in range(1000)], "cannot be compared .* got class 0, class 1, class 2"),
        ([f"n{number:08}" for number in range(1000)], "cannot be compared"),
        (THEIRS[:10], "other classes; expected 10; got 1000"),
    ],
)
def test_refuses_other_classes_and_other_orders(names, expected):
    with pytest.raises(ArtifactError, match=f"weights: .*{expected}"):
        require_same_classes(names, THEIRS, "weights")


def test_identity_wordnet_s_ids_are_known_by_their_digest_and_sorted(monkeypatch):
    ids = [f"n{number:08}" for number in range(1000)]
    monkeypatch.setattr(module, "_WNIDS", module._digest(ids))
    require_same_classes(ids, THEIRS, "weights")
    with pytest.raises(ArtifactError, match="expected class 3 to be n00000003"):
        require_same_classes(swapped(ids), THEIRS, "weights")

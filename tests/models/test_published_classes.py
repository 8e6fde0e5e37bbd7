import pytest
from torchvision import models

from stl_ray.errors import ArtifactError
from stl_ray.models.imagenet import NAMES, WNIDS
from stl_ray.models.published_classes import require_imagenet

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
        NAMES,
        WNIDS,
        INDICES,
        [f"{number:04}" for number in range(1000)],
        [name.replace(" ", "_").upper() for name in THEIRS],
        [f"{name}, another word of it" for name in THEIRS],
        ["crane" if name == "crane bird" else name for name in THEIRS],
        ["worded otherwise", *THEIRS[1:]],
    ],
)
def test_agrees_with_the_same_classes_however_they_are_named(names):
    require_imagenet(names, "weights")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (THEIRS[::-1], "in another order; expected class 0 to be tench .* got toilet tissue"),
        (swapped(THEIRS), "in another order; expected class 3 to be tiger shark"),
        (sorted(INDICES), r"expected class 2 to be 2 \(class_order: number.* got 10"),
        (swapped(INDICES), "expected class 3 to be 3"),
        ([str(number) for number in range(1, 1001)], "expected class 0 to be 0 .* got 1"),
        (swapped(WNIDS), r"expected class 3 to be n01491361 \(WordNet's ids sorted\); got n03042490"),
        ([f"class {number}" for number in range(1000)], "cannot be compared .* got class 0, class 1, class 2"),
        ([f"n{number:08}" for number in range(1000)], "cannot be compared"),
        (THEIRS[:10], "other classes; expected classes: imagenet, whose 1000 .* got 10 classes"),
    ],
)
def test_refuses_other_classes_and_other_orders(names, expected):
    with pytest.raises(ArtifactError, match=f"weights: .*{expected}"):
        require_imagenet(names, "weights")

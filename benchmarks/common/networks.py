"""The CIFAR-10 networks of the shared weights."""

from collections.abc import Sequence
from pathlib import Path

from stl_ray.models import Classifier, build_classifier, load_weights

CIFAR10 = tuple(str(number) for number in range(10))
"""Names of the classes, in the order of the weights."""


def cifar10_network(name: str, data: Path, class_names: Sequence[str] = CIFAR10, seed: int = 0) -> Classifier:
    """A network as trained elsewhere, in eval mode.

    Args:
        name: "resnet20" or "resnet56".
        data: folder with weights/cifar10_<name>.safetensors.
        class_names: of the ten classes.
        seed: of the weights that are replaced, for the record.
    """
    classifier = build_classifier(f"cifar_{name}", class_names, seed=seed)
    load_weights(classifier, str((data / "weights" / f"cifar10_{name}.safetensors").absolute()))
    return classifier.eval()

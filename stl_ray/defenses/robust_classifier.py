"""Another classifier of the experiment in the defended one's place: adversarially trained, or on encoded images.

A row of a table for what is trained instead of put in front, such as Madry et al. 2018 (arXiv:1706.06083) and Buckman et al.
2018: beside the other rows, on the images that were crafted on the block's own classifier, and attacked as itself where an
attack knows of the defense.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from stl_ray.defenses.base import Defense, Transformation
from stl_ray.defenses.options import DefenseOptions
from stl_ray.defenses.undefended import Undefended
from stl_ray.errors import ConfigError
from stl_ray.models import Classifier, Victim, classifier_identity


class RobustClassifierOptions(DefenseOptions):
    """The options of robust_classifier."""

    classifier: str | None = Field(
        None, description="name of the classifier that answers in the place of the others, with their classes; absent: the only one"
    )  # fmt: skip

    @property
    def requires(self) -> frozenset[str]:
        """The classifier."""
        return frozenset({"classifier"})


@dataclass(frozen=True)
class RobustClassifier(Defense):
    """A classifier that answers in the place of every other one.

    Args:
        classifier: in eval mode, on the images' device.
    """

    classifier: Classifier
    name = "robust_classifier"

    @property
    def views(self) -> tuple[Transformation, ...]:
        """The image as it is."""
        return (Undefended(),)

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, "classifier": classifier_identity(self.classifier)}

    def network(self, classifier: Victim, seeds: Sequence[int], view: int = 0) -> Victim:
        """See `Defense.network`.

        Raises:
            ConfigError: the two have other classes, or the same in another order.
        """
        if isinstance(classifier, Classifier) and not _alike(classifier.class_names, self.classifier.class_names):
            raise ConfigError(
                "a classifier cannot stand in the place of one with other classes", item=self.name,
                expected=_shown(classifier.class_names), got=_shown(self.classifier.class_names),
            )  # fmt: skip
        return self.classifier


def _alike(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether classes are the same, in the same order; numbers, which stand for those that have no names, are as good as names."""
    numbers = tuple(map(str, range(len(names))))
    return len(names) == len(others) and (numbers in (tuple(names), tuple(others)) or tuple(names) == tuple(others))


def _shown(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"

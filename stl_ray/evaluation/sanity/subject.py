"""What is checked, and what is being found of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from stl_ray.attacks import AttackResult, AttackStatus, Budget
from stl_ray.defenses import Defended


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Attributes:
        deployed: the defended classifier with the strongest gradient that it has.
        budget: of the attacks.
        store: what adversarial images are stored as.
        seed: the run seed.
        level: "quick" or "full": 10 or 50 steps of the iterated attack, and 100 or 1000 queries.
    """

    deployed: Defended
    budget: Budget
    store: Literal["u8", "f32"]
    seed: int
    level: Literal["quick", "full"] = "quick"

    @property
    def steps(self) -> int:
        """Of the iterated attack, before they are doubled."""
        return 10 if self.level == "quick" else 50

    @property
    def queries(self) -> int:
        """Of the gradient-free attack."""
        return 100 if self.level == "quick" else 1000


@dataclass(frozen=True)
class Stored:
    """Adversarial images as they are stored.

    Attributes:
        images: (B, 3, H, W).
        budget: that they were held to.
        store: what they are stored as.
        status: how the attack ended, where it is an attack that goes as far as it may.
    """

    images: Tensor
    budget: Budget
    store: Literal["u8", "f32"]
    status: Sequence[AttackStatus] | None = None


@dataclass
class Answers:
    """What is being found of B images."""

    labels: Tensor
    answers: dict[str, list[int]] = field(default_factory=dict)
    measures: dict[str, list[float]] = field(default_factory=dict)

    def rows(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """As rows of `PROBES_SCHEMA`."""
        return [
            {
                "id": name,
                "label": int(self.labels[row]),
                "answers": [{"probe": probe, "prediction": values[row]} for probe, values in self.answers.items()],
                "measures": [{"name": what, "value": values[row]} for what, values in self.measures.items()],
            }
            for row, name in enumerate(ids)
        ]


@dataclass(frozen=True)
class Crafted:
    """What an attack made of the images."""

    result: AttackResult
    predictions: Tensor  # (B,) of the deployed pipeline, from cold solves

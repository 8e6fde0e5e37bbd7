"""Probe table: predictions of the deployed pipeline at the end of every probe, and measures, per image.

A probe is an attack, or a query about the clean image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.attacks import Budget
from stl_ray.defenses import Decisions
from stl_ray.errors import InputError
from stl_ray.rightness import right

PROBES_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("label", pa.int64()),
        pa.field(
            "answers",
            pa.list_(
                pa.struct(
                    [
                        pa.field("probe", pa.string()),
                        pa.field("prediction", pa.int64()),
                        pa.field("rejected", pa.bool_()),  # whether the defense's detector refused the image
                    ]
                )
            ),
        ),
        pa.field("measures", pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("value", pa.float64())]))),
    ]
)
"""One row per image for one defense."""


class Probe(StrEnum):
    """Names of probes in the table; a name that ends in a space or an x is a prefix, followed by a number or a word."""

    CLEAN = "clean"
    PASS = "pass "  # the clean image again, with other draws of a randomised defense
    ALONE = "alone"  # the clean image in a batch of one
    WHITE_BOX = "white-box"  # the iterated attack with the strongest gradient of the defense, at the budget
    SINGLE_STEP = "single step"
    NOISE = "noise"
    TRANSFER = "transfer"  # crafted on the bare classifier
    BARE_CLASSIFIER = "undefended"  # the transfer images on the bare classifier
    BPDA = "BPDA"
    OTHER_LOSS = "other loss"
    GRADIENT_FREE = "gradient-free"
    STEPS = "steps x"  # the iterated attack with twice and four times the steps
    RETRY = "retry "  # the iterated attack from other starts and with other step sizes
    SWEEP = "sweep "  # the iterated attack at a series of budgets, in ascending order
    OTHER_CLUSTER = "other cluster"  # the iterated attack through clusters that are not the predicted one


class Measure(StrEnum):
    """Names of measures in the table."""

    OVER_BUDGET = "over budget"  # largest excess over the image's attacks, as a share of the budget
    UNDER_BUDGET = "under budget"  # largest shortfall likewise; 0 for attacks that may, or had to, end below the budget
    OVER_TOLERANCE = "over tolerance"  # the larger of excess and shortfall, each over its tolerance
    OUT_OF_BOX = "out of the box"  # 1: a pixel is outside [0, 1] or not finite
    LOWEST_LOGIT = "smallest logit"
    HIGHEST_LOGIT = "largest logit"
    SUM_OF_LOGITS = "sum of logits"
    BATCH_GAP = "logits alone"  # largest difference between logits alone and in a batch, over their spread
    TRAINING_MODE = "in training mode"
    ZERO_GRADIENT = "gradient is zero"
    INFINITE_GRADIENT = "gradient is not finite"
    BPDA_COSINE = "cosine of BPDA to exact"
    LOSS_RISES = "loss rises"
    DIFFERENCE_ERROR = "finite difference error"
    SILENT_SUCCESS = "silent success"  # 1: misclassified during the attack, but not as stored
    MARGIN = "margin at steps x"  # prefix, followed by 2 or 4
    CLUSTER_FLIPPED = "cluster flipped"


AT_THE_BUDGET = (
    Probe.WHITE_BOX, Probe.SINGLE_STEP, Probe.NOISE, Probe.TRANSFER, Probe.BPDA, Probe.OTHER_LOSS, Probe.GRADIENT_FREE,
    Probe.OTHER_CLUSTER,
)  # fmt: skip

# In the place of a class.
_REFUSED = -2


@dataclass
class ProbeAnswers:
    """Rows of the table under construction, for B images; no image is refused where `rejected` has no entry."""

    labels: Tensor
    answers: dict[str, list[int]] = field(default_factory=dict)
    rejected: dict[str, list[bool]] = field(default_factory=dict)
    measures: dict[str, list[float]] = field(default_factory=dict)

    def decide(self, probe: str, decisions: Decisions) -> None:
        """Take the decisions on the images at the end of a probe."""
        self.answers[probe], self.rejected[probe] = decisions.prediction.tolist(), decisions.rejected.tolist()

    def rows(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Rows of `PROBES_SCHEMA`."""
        return [
            {
                "id": name,
                "label": int(self.labels[row]),
                "answers": [
                    {
                        "probe": str(probe),
                        "prediction": values[row],
                        "rejected": probe in self.rejected and self.rejected[probe][row],
                    }
                    for probe, values in self.answers.items()
                ],
                "measures": [{"name": str(name), "value": values[row]} for name, values in self.measures.items()],
            }
            for row, name in enumerate(ids)
        ]


@dataclass(frozen=True)
class ProbeTable:
    """The table as arrays over N images; a measure that was not taken on an image is NaN."""

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    answers: dict[str, NDArray[np.int64]]
    rejected: dict[str, NDArray[np.bool_]]
    measures: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, table: pa.Table, item: str) -> "ProbeTable":
        """Arrays in the order of the ids.

        Args:
            table: of `PROBES_SCHEMA`.
            item: name of the table for errors.

        Raises:
            InputError: no row, a repeated id, or images with different probes.
        """
        rows = table.cast(PROBES_SCHEMA).sort_by("id").to_pylist()
        if not rows:
            raise InputError("no probes", item=item, expected="at least one row")
        ids = tuple(row["id"] for row in rows)
        if len(set(ids)) < len(ids):
            raise InputError("an id comes twice", item=item)
        answers = _columns([{entry["probe"]: entry["prediction"] for entry in row["answers"]} for row in rows], item)
        rejected = _columns([{entry["probe"]: entry["rejected"] for entry in row["answers"]} for row in rows], item)
        measures = _columns([{entry["name"]: entry["value"] for entry in row["measures"]} for row in rows], item)
        return cls(
            ids,
            np.array([row["label"] for row in rows], dtype=np.int64),
            {name: np.array(values, dtype=np.int64) for name, values in answers.items()},
            {name: np.array(values, dtype=np.bool_) for name, values in rejected.items()},
            {name: np.array(values, dtype=np.float64) for name, values in measures.items()},
        )

    def __len__(self) -> int:
        return len(self.ids)

    def correct(self, probe: str) -> NDArray[np.bool_]:
        """(N,): whether the pipeline is right at the end of the probe."""
        attacked = probe not in (Probe.CLEAN, Probe.ALONE) and not probe.startswith(Probe.PASS)
        return right(self.answers[probe], self.labels, self.rejected[probe], attacked=attacked)

    def said(self, probe: str) -> NDArray[np.int64]:
        """(N,): all that the pipeline says at the end of the probe: a class or that there is none; or that it refuses."""
        return np.where(self.rejected[probe], _REFUSED, self.answers[probe])

    def named(self, prefix: str) -> list[str]:
        """Probes whose names start with the prefix, in the order of the table."""
        return [name for name in self.answers if name.startswith(prefix)]

    def measured(self, name: str) -> NDArray[np.float64]:
        """Values of a measure on the images on which it was taken."""
        values = self.measures.get(name, np.array([]))
        return values[~np.isnan(values)]

    def broken_only_by(self, weaker: str, stronger: str) -> int:
        """Number of images that are misclassified under the weaker attack and right under the stronger one."""
        return int((~self.correct(weaker) & self.correct(stronger)).sum())


def broken_images(probes: ProbeTable, budget: Budget) -> dict[str, int]:
    """Attacks of the checks within the budget, which count in the worst case.

    Returns:
        By id, a wrong class under one of these attacks; the label where all of them failed.
    """
    names: list[str] = [name for name in AT_THE_BUDGET if name in probes.answers]
    names += [*probes.named(Probe.STEPS), *probes.named(Probe.RETRY)]
    limit = float(f"{budget.size:g}")
    names += [name for name in probes.named(Probe.SWEEP) if float(name.removeprefix(Probe.SWEEP)) <= limit]
    classes = probes.labels.copy()
    for name in reversed(names):
        wrong = ~probes.correct(name)
        classes[wrong] = probes.answers[name][wrong]
    return dict(zip(probes.ids, classes.tolist(), strict=True))


def _columns(rows: Sequence[dict[str, Any]], item: str) -> dict[str, list[Any]]:
    names = list(rows[0])
    for row in rows:
        if list(row) != names:
            raise InputError("images probed in different ways", item=item, expected=names, got=list(row))
    return {name: [row[name] for row in rows] for name in names}

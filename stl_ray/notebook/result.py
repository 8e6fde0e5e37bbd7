"""What `stl_ray.evaluate` returns: scores with their intervals, as tables, plots and data frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from matplotlib.figure import Figure

from stl_ray.notebook.adversarial import Adversarial
from stl_ray.options import named
from stl_ray.report import blocks, charts
from stl_ray.report.accuracy import accuracy_table, difference_table
from stl_ray.report.attacks import attack_blocks
from stl_ray.report.detection import detection_table
from stl_ray.report.page import fragment
from stl_ray.report.records import Scores
from stl_ray.report.terminal import blocks_text
from stl_ray.report.threats import threat_sentences
from stl_ray.report.tiers import tier_blocks

if TYPE_CHECKING:
    import pandas as pd

_SETTING = "vanilla"


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What defenses are worth in front of a model; prints as the tables of the report.

    Attributes:
        scores: the content of the job's scores.json: `cells` with counts, 95 % Wilson intervals and the paired difference from
            no defense, `attacks`, and `tiers` with the worst case and the flags H1 to H15, or None.
        predictions: by (defense, set or "clean"), a row for each image (`stl_ray.evaluation.PREDICTIONS_SCHEMA`; `retrained`
            is `vanilla`, there is one model).
        adversarial: the sets that the defenses were scored on.
        verdicts: by defense, a row for each image that the tiers attacked (`stl_ray.evaluation.VERDICTS_SCHEMA`).
        remarks: on the images and the model, as they were warned of.
    """

    scores: dict[str, Any]
    predictions: dict[tuple[str, str], pa.Table]
    adversarial: Adversarial
    verdicts: dict[str, pa.Table]
    remarks: tuple[str, ...]

    def to_pandas(self, table: str = "scores") -> "pd.DataFrame":
        """A data frame.

        Args:
            table: "scores": a row for each defense on each set, with counts, accuracy and its 95 % Wilson interval, and the
                difference from no defense, whose `p` is adjusted for all of these in `p_adjusted` (Holm), and of a detector the
                share that it refused (`refused`), the accuracy among the others (`accepted`) and the area under its ROC curve
                (`auroc`); "predictions": a row for each image of each of these; "tiers": a row for each defense and attack of the tiers, whose accuracy counts the attacks before it too,
                so that the last one is the worst case; "verdicts": a row for each image and attack of the tiers.

        Raises:
            ConfigError: there is no such table.
        """
        frame: pd.DataFrame = named(_TABLES, table, kind="table")(self).to_pandas()
        return frame

    def plot(self) -> Figure:
        """Accuracy with its 95 % interval by defense and attack; with tiers, the worst case too."""
        return charts.drawn(charts.accuracy_chart, self._record, _SETTING, worst_case=True)

    @cached_property
    def _record(self) -> Scores:
        return Scores.model_validate(self.scores)

    def __repr__(self) -> str:
        return blocks_text(self._blocks())

    def _repr_html_(self) -> str:
        caption = "Accuracy with its 95 % interval; the dotted line is chance."
        chart = charts.chart("accuracy", caption, charts.accuracy_chart, self._record, _SETTING, worst_case=True)
        return fragment([*self._blocks(), chart])

    def _blocks(self) -> list[blocks.Block]:
        record = self._record
        return [
            *(blocks.Text(remark, kind="caveat") for remark in self.remarks),
            accuracy_table(record, _SETTING),
            *([difference_table(record, _SETTING)] if any(cell.versus_none for cell in record.cells) else []),
            *filter(None, [detection_table(record, _SETTING)]),
            *(attack_blocks(record.attacks) if record.attacks else ()),
            *(tier_blocks(record.tiers) if record.tiers else ()),
            *(blocks.Text(sentence, kind="caveat") for sentence in threat_sentences(record)),
        ]


def _cells(evaluation: Evaluation) -> pa.Table:
    rows = []
    for cell in evaluation.scores["cells"]:
        versus = cell["versus_none"] or {}
        detection = cell["detection"] or {}
        nested = ("setting", "statuses", "detection", "initially_right", "by_cluster", "versus_none")
        rows.append(
            {
                **{name: value for name, value in cell.items() if name not in nested},
                **_figures("refused", detection.get("refused"), "share"),
                **_figures("accepted", detection.get("accepted"), "share"),
                **_figures("auroc", detection.get("auroc"), "estimate"),
                **_figures("initially_right", cell["initially_right"], "share"),
                "gained": versus.get("gained"),
                "lost": versus.get("lost"),
                "difference": versus.get("difference"),
                "difference_low": versus.get("low"),
                "difference_high": versus.get("high"),
                "p": versus.get("p"),
                "p_adjusted": versus.get("p_adjusted"),
            }
        )
    return pa.Table.from_pylist(rows)


def _figures(name: str, interval: Mapping[str, Any] | None, estimate: str) -> dict[str, float | None]:
    """An estimate with its interval as columns; empty where there is none."""
    found = interval or {}
    return {name: found.get(estimate), f"{name}_low": found.get("low"), f"{name}_high": found.get("high")}


def _predicted(evaluation: Evaluation) -> pa.Table:
    tables = []
    for (defense, attack), table in evaluation.predictions.items():
        names = {
            "vanilla": "prediction", "vanilla_float": "prediction_float", "vanilla_rejected": "rejected",
            "vanilla_score": "score", "vanilla_confidence": "confidence",
        }  # fmt: skip
        kept = table.drop_columns([name for name in table.column_names if name.startswith("retrained")])
        kept = kept.rename_columns([names.get(name, name) for name in kept.column_names])
        marked = [pa.array([value] * len(table), pa.string()) for value in (defense, attack)]
        tables.append(kept.add_column(0, "defense", marked[0]).add_column(1, "attack", marked[1]))
    return pa.concat_tables(tables)


def _steps(evaluation: Evaluation) -> pa.Table:
    tiers: Mapping[str, Any] = evaluation.scores["tiers"] or {"rows": []}
    return pa.Table.from_pylist(
        [
            {"defense": row["defense"], **{name: value for name, value in step.items() if name != "statuses"}}
            for row in tiers["rows"]
            for step in row["steps"]
        ]
    )


def _verdicts(evaluation: Evaluation) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"defense": defense, "id": row["id"], "label": row["label"], **verdict}
            for defense, table in evaluation.verdicts.items()
            for row in table.to_pylist()
            for verdict in row["verdicts"]
        ]
    )


_TABLES = {"scores": _cells, "predictions": _predicted, "tiers": _steps, "verdicts": _verdicts}

"""Scores from predictions: counts, intervals, and the comparison of each defense with no defense on the same images.

Comparisons are paired, and every share is stored with its counts.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from stl_ray.config import AttackedConfig
from stl_ray.errors import InputError
from stl_ray.evaluation.predictions import Cell, aligned
from stl_ray.evaluation.shares import Share
from stl_ray.evaluation.subgroups import ClusterScore, by_cluster
from stl_ray.rightness import right
from stl_ray.statistics import Interval, auroc, holm, paired, roc_points, wilson
from stl_ray.store.layout import CLEAN
from stl_ray.threats import threat_of

UNDEFENDED = "none"
"""Name of the row without a defense."""

Setting = Literal["vanilla", "retrained"]


@dataclass(frozen=True)
class Comparison:
    """Accuracy of a defense minus the accuracy without a defense, on the same images."""

    gained: int  # images that are right behind the defense alone
    lost: int  # images that are right without it alone
    difference: float
    low: float
    high: float
    p: float  # exact two-sided McNemar test
    p_adjusted: float  # by Holm's method, over all such comparisons of the classifier in its setting


@dataclass(frozen=True)
class Detection:
    """What the detector of a defense did on one set of images.

    Attributes:
        refused: images that it refused.
        accepted: of the others, those whose class is right; None: there is no other.
        auroc: area under the ROC curve of its score, which tells the set's images from the clean ones, and its 95 % interval;
            None: of the clean images.
        roc: that curve (`statistics.roc_points`).
    """

    refused: Share
    accepted: Share | None
    auroc: Interval | None
    roc: list[tuple[float, float]] | None


@dataclass(frozen=True)
class Score:
    """Score of one classifier setting behind one defense on one set of images."""

    setting: Setting
    defense: str
    attack: str
    threat: str
    correct: int
    total: int
    accuracy: float
    low: float  # of the 95 % Wilson interval
    high: float
    float_disagreements: int  # images with another prediction without 8-bit rounding
    psnr: float | None  # mean dB against the clean image, over images that differ from it; None: no image differs
    cluster_changed: float | None  # share of images whose cluster differs from the clean image's; None: no clusters
    statuses: dict[str, int]  # images by status of the defense's solve
    detection: Detection | None  # None without a detector
    initially_right: Share | None  # right here, of the images that the vanilla classifier alone has right when clean
    by_cluster: list[ClusterScore] | None  # None without clusters
    versus_none: Comparison | None  # None for the row without a defense


def score(
    tables: Mapping[Cell, pa.Table],
    *,
    classifier: str,
    architecture: str,
    class_names: Sequence[str],
    retrained: Collection[str] = (),
    detecting: Collection[str] = (),
    crafted: Mapping[str, AttackedConfig] | None = None,
) -> dict[str, Any]:
    """The content of a classifier's scores.json.

    Args:
        tables: predictions (`PREDICTIONS_SCHEMA`) of every (defense, attack set), "none" and "clean" among them.
        classifier: name of the scored classifier.
        architecture: its architecture.
        class_names: its classes.
        retrained: defenses that it was retrained for; their cells and those without defense are scored in that setting too.
        detecting: defenses that have a detector.
        crafted: by attack set, the model it was crafted on; sets not listed: the scored classifier.

    Raises:
        InputError: if a defense or an attack set lacks its row for comparison, or the tables do not fit together (see
            `aligned`).
    """
    columns = aligned(tables, len(class_names))
    for defense, attack in columns:
        for needed in ((UNDEFENDED, attack), (defense, CLEAN)):
            if needed not in columns:
                raise InputError("nothing to compare with", item="/".join((defense, attack)), expected="/".join(needed))
    settings: dict[Setting, list[Cell]] = {"vanilla": list(columns)}
    if retrained:
        settings["retrained"] = [cell for cell in columns if cell[0] in (UNDEFENDED, *retrained)]
    versus_none = {setting: _versus_none(columns, setting, cells) for setting, cells in settings.items()}
    ids = next(iter(columns.values()))["id"]
    every = set().union(*(table.column("id").to_pylist() for table in tables.values()))
    return {
        "format": "scores",
        "version": 3,
        "images": len(ids),
        "set_aside": len(every) - len(ids),
        "ids_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        "classifier": classifier,
        "architecture": architecture,
        "class_names": list(class_names),
        "chance": 1 / len(class_names),
        "cells": [
            _plain(
                _score(
                    columns,
                    cell,
                    setting,
                    (crafted or {}).get(cell[1]),
                    classifier,
                    cell[0] in detecting,
                    versus_none[setting].get(cell),
                )
            )
            for setting, cells in settings.items()
            for cell in cells
        ],
    }


def _score(
    columns: Mapping[Cell, Mapping[str, np.ndarray]],
    cell: Cell,
    setting: Setting,
    crafted: AttackedConfig | None,
    classifier: str,
    detecting: bool,
    versus_none: Comparison | None,
) -> Score:
    defense, attack = cell
    table = columns[cell]
    held = _right(table, setting, attack)
    interval = wilson(int(held.sum()), len(held))
    return Score(
        setting=setting,
        defense=defense,
        attack=attack,
        threat=threat_of(
            attack, classifier, defense, crafted, retrained=setting == "retrained" and defense != UNDEFENDED
        ),
        correct=int(held.sum()),
        total=len(held),
        accuracy=interval.estimate,
        low=interval.low,
        high=interval.high,
        float_disagreements=int((table[setting] != table[f"{setting}_float"]).sum()),
        psnr=_mean_psnr(table["psnr"]),
        cluster_changed=_changed(table["cluster"], columns[defense, CLEAN]["cluster"]),
        statuses=dict(sorted(Counter(table["status"].tolist()).items())),
        detection=_detection(table, columns[defense, CLEAN], setting, attack) if detecting else None,
        initially_right=Share.of(held[_right(columns[UNDEFENDED, CLEAN], "vanilla", CLEAN)]),
        by_cluster=by_cluster(
            held, _right(columns[UNDEFENDED, attack], setting, attack), columns[defense, CLEAN]["cluster"]
        ),
        versus_none=versus_none,
    )


def _right(table: Mapping[str, np.ndarray], setting: Setting, attack: str) -> np.ndarray:
    """(N,) bool: the images on which a setting is right."""
    return right(table[setting], table["label"], table[f"{setting}_rejected"], attacked=attack != CLEAN)


def _versus_none(
    columns: Mapping[Cell, Mapping[str, np.ndarray]], setting: Setting, cells: Collection[Cell]
) -> dict[Cell, Comparison]:
    """Every defense compared with none: one table of a classifier, whose p-values are adjusted together."""
    held = {(defense, attack): _right(columns[defense, attack], setting, attack) for defense, attack in cells}
    pairs = {
        (defense, attack): (own, held[UNDEFENDED, attack])
        for (defense, attack), own in held.items()
        if defense != UNDEFENDED
    }
    compared = [paired(*pair) for pair in pairs.values()]
    adjusted = holm([p for _, p in compared])
    return {
        cell: Comparison(int((own & ~bare).sum()), int((bare & ~own).sum()), *interval, p, by_holm)
        for (cell, (own, bare)), (interval, p), by_holm in zip(pairs.items(), compared, adjusted, strict=True)
    }


def _detection(
    table: Mapping[str, np.ndarray], clean: Mapping[str, np.ndarray], setting: Setting, attack: str
) -> Detection:
    rejected, found = table[f"{setting}_rejected"], table[setting] == table["label"]
    refused = Share.of(rejected)
    if refused is None:
        raise AssertionError("aligned tables have rows")
    scores = clean[f"{setting}_score"], table[f"{setting}_score"]
    attacked = attack != CLEAN
    return Detection(
        refused,
        Share.of(found[~rejected]),
        auroc(*scores) if attacked else None,
        roc_points(*scores) if attacked else None,
    )


def _plain(score: Score) -> dict[str, Any]:
    """The score, JSON-able."""
    plain = asdict(score)
    if score.detection is not None and score.detection.auroc is not None:
        plain["detection"]["auroc"] = score.detection.auroc._asdict()
    return plain


def _mean_psnr(psnr: np.ndarray) -> float | None:
    differing = psnr[np.isfinite(psnr)]
    return float(differing.mean(dtype=np.float64)) if len(differing) else None


def _changed(cluster: np.ndarray, clean: np.ndarray) -> float | None:
    return float((cluster != clean).mean()) if (cluster >= 0).any() else None

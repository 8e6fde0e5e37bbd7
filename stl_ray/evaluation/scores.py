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
from stl_ray.statistics import mcnemar, paired_difference, wilson
from stl_ray.store.layout import CLEAN
from stl_ray.threats import threat_of

UNDEFENDED = "none"
"""Name of the row without a defense."""

Setting = Literal["vanilla", "retrained"]


@dataclass(frozen=True)
class Comparison:
    """Accuracy of a defense minus the accuracy without a defense, on the same images."""

    difference: float
    low: float
    high: float
    p: float  # exact two-sided McNemar test


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
    versus_none: Comparison | None  # None for the row without a defense


def score(
    tables: Mapping[Cell, pa.Table],
    *,
    classifier: str,
    architecture: str,
    class_names: Sequence[str],
    retrained: Collection[str] = (),
    crafted: Mapping[str, AttackedConfig] | None = None,
) -> dict[str, Any]:
    """The content of a classifier's scores.json.

    Args:
        tables: predictions (`PREDICTIONS_SCHEMA`) of every (defense, attack set), "none" and "clean" among them.
        classifier: name of the scored classifier.
        architecture: its architecture.
        class_names: its classes.
        retrained: defenses that it was retrained for; their cells and those without defense are scored in that setting too.
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
    settings: tuple[Setting, ...] = ("vanilla", "retrained") if retrained else ("vanilla",)
    ids = next(iter(columns.values()))["id"]
    every = set().union(*(table.column("id").to_pylist() for table in tables.values()))
    return {
        "format": "scores",
        "version": 2,
        "images": len(ids),
        "set_aside": len(every) - len(ids),
        "ids_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        "classifier": classifier,
        "architecture": architecture,
        "class_names": list(class_names),
        "chance": 1 / len(class_names),
        "cells": [
            asdict(_score(columns, cell, setting, (crafted or {}).get(cell[1]), classifier))
            for setting in settings
            for cell in columns
            if setting == "vanilla" or cell[0] in (UNDEFENDED, *retrained)
        ],
    }


def _score(
    columns: Mapping[Cell, Mapping[str, np.ndarray]],
    cell: Cell,
    setting: Setting,
    crafted: AttackedConfig | None,
    classifier: str,
) -> Score:
    defense, attack = cell
    table = columns[cell]
    right = table[setting] == table["label"]
    interval = wilson(int(right.sum()), len(right))
    return Score(
        setting=setting,
        defense=defense,
        attack=attack,
        threat=threat_of(
            attack, classifier, defense, crafted, retrained=setting == "retrained" and defense != UNDEFENDED
        ),
        correct=int(right.sum()),
        total=len(right),
        accuracy=interval.estimate,
        low=interval.low,
        high=interval.high,
        float_disagreements=int((table[setting] != table[f"{setting}_float"]).sum()),
        psnr=_mean_psnr(table["psnr"]),
        cluster_changed=_changed(table["cluster"], columns[defense, CLEAN]["cluster"]),
        statuses=dict(sorted(Counter(table["status"].tolist()).items())),
        versus_none=None if defense == UNDEFENDED else _compare(right, columns[UNDEFENDED, attack], setting),
    )


def _compare(right: np.ndarray, undefended: Mapping[str, np.ndarray], setting: Setting) -> Comparison:
    other = undefended[setting] == undefended["label"]
    only_first, only_second = int((right & ~other).sum()), int((~right & other).sum())
    interval = paired_difference(int((right & other).sum()), only_first, only_second, int((~right & ~other).sum()))
    return Comparison(interval.estimate, interval.low, interval.high, mcnemar(only_first, only_second))


def _mean_psnr(psnr: np.ndarray) -> float | None:
    differing = psnr[np.isfinite(psnr)]
    return float(differing.mean(dtype=np.float64)) if len(differing) else None


def _changed(cluster: np.ndarray, clean: np.ndarray) -> float | None:
    return float((cluster != clean).mean()) if (cluster >= 0).any() else None

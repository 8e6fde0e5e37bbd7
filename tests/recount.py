"""The cells of scores.json, recounted by DuckDB from predictions.parquet: what the report says, without this package's counting."""

import json
from pathlib import Path
from typing import Any

import duckdb

from stl_ray.statistics import holm, mcnemar, paired_difference, wilson

_CELLS = """
    WITH p AS (SELECT * FROM read_parquet(?) WHERE classifier = ? AND scored),
        at_first AS (
            SELECT id FROM p WHERE (setting, defense, attack) = ('vanilla', 'none', 'clean') AND correct
        )
    SELECT setting, defense, attack, any_value(threat), count(*) FILTER (correct), count(*),
        avg(psnr::DOUBLE) FILTER (isfinite(psnr)),
        CASE WHEN bool_or(cluster >= 0) THEN avg((cluster <> clean_cluster)::INT) END,
        map_from_entries(list(DISTINCT {'k': status, 'v': (
            SELECT count(*) FROM p q WHERE (q.setting, q.defense, q.attack, q.status) = (p.setting, p.defense, p.attack, p.status)
        )})),
        count(*) FILTER (rejected), count(*) FILTER (NOT rejected AND prediction = label),
        count(*) FILTER (correct AND id IN (SELECT id FROM at_first)), count(*) FILTER (id IN (SELECT id FROM at_first))
    FROM p GROUP BY setting, defense, attack ORDER BY ALL
"""
_CLUSTERS = """
    WITH p AS (SELECT * FROM read_parquet(?) WHERE classifier = ? AND scored)
    SELECT a.setting, a.defense, a.attack, a.clean_cluster, count(*) FILTER (a.correct), count(*) FILTER (b.correct), count(*)
    FROM p a JOIN p b ON (a.setting, a.attack, a.id, b.defense) = (b.setting, b.attack, b.id, 'none')
    WHERE a.clean_cluster >= 0 GROUP BY ALL ORDER BY ALL
"""
_PAIRS = """
    WITH p AS (SELECT * FROM read_parquet(?) WHERE classifier = ? AND scored)
    SELECT a.setting, a.defense, a.attack, count(*) FILTER (a.correct AND b.correct),
        count(*) FILTER (a.correct AND NOT b.correct), count(*) FILTER (NOT a.correct AND b.correct),
        count(*) FILTER (NOT a.correct AND NOT b.correct)
    FROM p a JOIN p b ON (a.setting, a.attack, a.id, b.defense) = (b.setting, b.attack, b.id, 'none')
    WHERE a.defense <> 'none' GROUP BY ALL
"""


def recounted(parquet: Path, classifier: str) -> list[dict[str, Any]]:
    """The cells of a classifier, sorted, with what can be counted from the table."""
    pairs = {row[:3]: row[3:] for row in duckdb.execute(_PAIRS, [str(parquet), classifier]).fetchall()}
    clusters: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for *key, cluster, defended, undefended, images in duckdb.execute(_CLUSTERS, [str(parquet), classifier]).fetchall():
        both = {"defended": _share(defended, images), "undefended": _share(undefended, images)}
        clusters.setdefault(tuple(key), []).append({"cluster": cluster, **both})
    cells = []
    for *key, threat, correct, total, psnr, changed, statuses, refused, accepted, kept, initially in duckdb.execute(
        _CELLS, [str(parquet), classifier]
    ).fetchall():
        pair = pairs.get(tuple(key))
        cells.append(
            {
                **dict(zip(("setting", "defense", "attack"), key, strict=True)),
                "threat": threat,
                "correct": correct,
                "total": total,
                **dict(zip(("accuracy", "low", "high"), wilson(correct, total), strict=True)),
                "psnr": psnr,
                "cluster_changed": changed,
                "statuses": statuses,
                "initially_right": _share(kept, initially),
                "by_cluster": clusters.get(tuple(key)),
                "versus_none": None if pair is None else _difference(*pair),
                "refused": refused,
                "accepted": accepted,
            }
        )
    for setting in {cell["setting"] for cell in cells}:
        pairs = [cell["versus_none"] for cell in cells if cell["setting"] == setting and cell["versus_none"]]
        for pair, adjusted in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
            pair["p_adjusted"] = adjusted
    return cells


def stored(scores: Path) -> list[dict[str, Any]]:
    """The cells of a scores.json, sorted, with the same keys."""
    cells = []
    for cell in json.loads(scores.read_text())["cells"]:
        detection = cell.pop("detection")
        del cell["float_disagreements"]
        refused = detection["refused"]["count"] if detection else 0
        accepted = (detection["accepted"] or {"count": 0})["count"] if detection else None
        cells.append({**cell, "refused": refused, "accepted": accepted})
    return sorted(cells, key=lambda cell: (cell["setting"], cell["defense"], cell["attack"]))


def require_recounted(parquet: Path, scores: Path) -> None:
    """Require that a table says exactly what the scores of a classifier say."""
    expected = stored(scores)
    found = recounted(parquet, scores.parent.name)
    for cell, other in zip(found, expected, strict=True):
        if other["accepted"] is None:  # without a detector nothing is said of what it accepted
            cell["accepted"] = None
        assert cell == other, (cell["setting"], cell["defense"], cell["attack"])


def _share(count: int, total: int) -> dict[str, float] | None:
    if not total:
        return None
    return {"count": count, "total": total, **dict(zip(("share", "low", "high"), wilson(count, total), strict=True))}


def _difference(*counts: int) -> dict[str, float]:
    difference = paired_difference(*counts)
    changed = {"gained": counts[1], "lost": counts[2]}
    return {
        **changed,
        **dict(zip(("difference", "low", "high"), difference, strict=True)),
        "p": mcnemar(counts[1], counts[2]),
    }

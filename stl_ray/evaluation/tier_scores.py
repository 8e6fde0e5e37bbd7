"""Verdicts and probes of every defense -> the part of scores.json that speaks of the tiers."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from stl_ray.attacks import budget_of
from stl_ray.config import TiersConfig
from stl_ray.evaluation.defended import DefendedClassifier
from stl_ray.evaluation.sanity import ProbeTable, broken_images, check_all
from stl_ray.evaluation.tiers import cascade_scores, with_further
from stl_ray.threats import GREY_BOX, KNOWLEDGE, ThreatTier

CHECKS = "sanity checks"
"""The step of the attacks that the checks made; no attack can have this name."""


@dataclass(frozen=True)
class UnderAttack:
    """One defense and what became of it.

    Attributes:
        defended: the defense with its classifier.
        attacks: the tiers of the attacks on it, stored sets among them, in their order.
        verdicts: of `VERDICTS_SCHEMA`.
        probes: of `PROBES_SCHEMA`; None: it is not checked.
    """

    defended: DefendedClassifier
    attacks: Mapping[str, ThreatTier]
    verdicts: pa.Table
    probes: pa.Table | None


def tier_scores(
    defenses: Mapping[str, UnderAttack],
    tiers: TiersConfig,
    *,
    sanity: Literal["quick", "full"],
    retrained: Sequence[str],
    seed: int,
    chance: float,
    version: str,
) -> dict[str, Any]:
    """Steps, worst case and flags of every defense, JSON-able.

    Args:
        defenses: by name, in the order of the rows.
        tiers: what was asked for.
        sanity: the level of the checks.
        retrained: names of the defenses whose classifier was retrained for them.
        seed: the run seed.
        chance: accuracy of guessing.
        version: of this package.

    Raises:
        InputError: the tables do not fit the attacks.
    """
    budget = budget_of(tiers.budget)
    digests = {name: _digest(item.verdicts.column("id").to_pylist()) for name, item in defenses.items()}
    rows = []
    for name, item in defenses.items():
        flags: list[dict[str, Any]] = []
        if item.probes is None:
            scores = cascade_scores(item.verdicts, name, item.attacks)
        else:
            probes, attacks = ProbeTable.of(item.probes, name), {**item.attacks, CHECKS: ThreatTier.CHECKS}
            further = with_further(
                item.verdicts, CHECKS, ThreatTier.CHECKS, broken_images(probes, budget), tiers.cascade
            )
            scores = cascade_scores(further, name, attacks)
            flags = check_all(
                probes,
                chance=chance,
                samples=tiers.samples,
                scores=scores,
                store=tiers.budget.store,
                ids=frozenset(digests.values()),
                record={
                    **item.defended.identity,
                    "attacks": list(attacks),
                    "budget": budget.model_dump(mode="json"),
                    "ids_sha256": digests[name],
                    "seed": str(seed),
                    "version": version,
                },
            )
        rows.append({"defense": name, "gradient": item.defended.strongest, **scores, "flags": flags})
    return {
        "budget": {**budget.model_dump(mode="json"), "store": tiers.budget.store},
        "retrained": list(retrained),
        "cascade": tiers.cascade,
        "sanity": sanity,
        "knowledge": {str(tier): line for tier, line in KNOWLEDGE.items()},
        "grey_box": [str(tier) for tier in GREY_BOX],
        "ids_sha256": next(iter(digests.values())),
        "rows": rows,
    }


def _digest(ids: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()

"""Verdicts and probes of every defense -> the part of scores.json that speaks of the tiers."""

import hashlib
from typing import Any

import pyarrow as pa

from stl_ray import __version__
from stl_ray.config import Experiment
from stl_ray.evaluation import UNDEFENDED, cascade_scores, with_further
from stl_ray.evaluation.sanity import ProbeTable, broken_images, check_all
from stl_ray.pipeline.budgets import budget_of
from stl_ray.pipeline.evaluate.adaptive.context import Context
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.store import Layout
from stl_ray.threats import GREY_BOX, KNOWLEDGE, ThreatTier

CHECKS = "sanity checks"
"""The step of the attacks that the checks made; no attack can have this name."""


def tier_scores(context: Context, chance: float) -> dict[str, Any] | None:
    """The part of a block's scores that speaks of the tiers; None where no attack is configured.

    Raises:
        IncompleteRunError: if verdicts or probes are not there yet.
    """
    experiment = context.experiment
    if not experiment.evaluate.tiers.attacks:
        return None
    layout, block = Layout(experiment.root), context.block.name
    tables = {name: _whole(experiment, layout.verdicts(block, name)) for name in context.defended}
    digests = {name: _digest(table.column("id").to_pylist()) for name, table in tables.items()}
    tiers = experiment.evaluate.tiers
    rows = []
    for name, table in tables.items():
        flags: list[dict[str, Any]] = []
        attacks = context.attacks(name)
        if name == UNDEFENDED:
            scores = cascade_scores(table, name, attacks)
        else:
            probes = ProbeTable.of(_whole(experiment, layout.probes(block, name)), name)
            attacks[CHECKS] = ThreatTier.CHECKS
            broken = broken_images(probes, budget_of(tiers.budget))
            scores = cascade_scores(
                with_further(table, CHECKS, ThreatTier.CHECKS, broken, tiers.cascade), name, attacks
            )
            flags = check_all(
                probes,
                chance=chance,
                samples=tiers.samples,
                scores=scores,
                store=tiers.budget.store,
                ids=frozenset(digests.values()),
                record={
                    **context.defended[name].identity,
                    "attacks": list(attacks),
                    "budget": budget_of(tiers.budget).model_dump(mode="json"),
                    "ids_sha256": digests[name],
                    "seed": str(experiment.seed),
                    "version": __version__,
                },
            )
        rows.append({"defense": name, "gradient": context.defended[name].strongest, **scores, "flags": flags})
    return {
        "budget": {**budget_of(tiers.budget).model_dump(mode="json"), "store": tiers.budget.store},
        "setting": "retrained" if context.block.config.retrain else "vanilla",
        "cascade": tiers.cascade,
        "sanity": experiment.evaluate.sanity,
        "knowledge": {str(tier): line for tier, line in KNOWLEDGE.items()},
        "grey_box": [str(tier) for tier in GREY_BOX],
        "ids_sha256": next(iter(digests.values())),
        "rows": rows,
    }


def headline(tiers: dict[str, Any]) -> str:
    """The worst cases, and what leaves them incomplete or voids them, in a line."""
    parts = []
    for row in tiers["rows"]:
        worst, raised = row["worst"], [flag["check"] for flag in row["flags"] if flag["state"] == "raised"]
        remarks = [] if row["complete"] else ["incomplete: attacks out of time"]
        remarks += [f"void: {', '.join(raised)} raised"] if raised else []
        accuracy = f"{'' if row['complete'] else 'at most '}{worst['accuracy']:.3f}"
        after = f" ({'; '.join(remarks)})" if remarks else ""
        parts.append(f"{row['defense']} {accuracy} [{worst['low']:.3f}, {worst['high']:.3f}]{after}")
    return f"worst case {', '.join(parts)}"


def _whole(experiment: Experiment, folder: str) -> pa.Table:
    return pa.concat_tables(dataset_of(experiment.root, folder).tables())


def _digest(ids: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()

"""Verdicts and probes of every defense -> the part of scores.json that speaks of the tiers."""

from typing import Any

import pyarrow as pa

from stl_ray import __version__
from stl_ray.config import Experiment
from stl_ray.evaluation import UNDEFENDED, tier_scores
from stl_ray.evaluation.tier_scores import UnderAttack
from stl_ray.pipeline.evaluate.adaptive.context import Context
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.store import Layout


def stored_tier_scores(context: Context, chance: float) -> dict[str, Any] | None:
    """The part of a block's scores that speaks of the tiers; None where no attack is configured.

    Raises:
        IncompleteRunError: if verdicts or probes are not there yet.
    """
    experiment = context.experiment
    if not experiment.evaluate.tiers.attacks:
        return None
    layout, block = Layout(experiment.root), context.block
    defenses = {
        name: UnderAttack(
            defended,
            context.attacks(name),
            _whole(experiment, layout.verdicts(block.name, name)),
            None if name == UNDEFENDED else _whole(experiment, layout.probes(block.name, name)),
        )
        for name, defended in context.defended.items()
    }
    return tier_scores(
        defenses,
        experiment.evaluate.tiers,
        sanity=experiment.evaluate.sanity,
        retrained=[name for name in context.defended if block.retrained(name)],
        seed=experiment.seed,
        chance=chance,
        version=__version__,
    )


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

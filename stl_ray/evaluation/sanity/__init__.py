"""SANITY: whether an evaluation is to be believed. Fifteen checks, each raised or passed by rules over figures.

probing      asks the pipeline what the checks look at: subject, attacking, watching, differences
probes       its answers as a table
flags        what a check says
fallen       the images that fell to them, which count in the worst case
budget       H1   every stored image within its budget
sweep        H2, H3   larger budgets
strength     H4, H5, H13   the order of strengths
convergence  H6, H7, H9   steps, restarts, lost successes
gradients    H8   zero, not finite, finite differences
answers      H10, H11   randomness, logits
ablations    H12   without the defense, other clusters
record       H14, H15   images, provenance

A raised flag is shown on the row and voids its claim. docs/evaluation.md says of each when it is raised, and why.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from stl_ray.evaluation.sanity.ablations import without_the_defense
from stl_ray.evaluation.sanity.answers import logits, randomness
from stl_ray.evaluation.sanity.budget import within_budget
from stl_ray.evaluation.sanity.convergence import retries, silent, steps
from stl_ray.evaluation.sanity.fallen import broken_images
from stl_ray.evaluation.sanity.flags import Flag, State
from stl_ray.evaluation.sanity.gradients import gradient_check
from stl_ray.evaluation.sanity.probes import PROBES_SCHEMA, Probes
from stl_ray.evaluation.sanity.record import provenance, statistics
from stl_ray.evaluation.sanity.strength import gradient_free, losses, order
from stl_ray.evaluation.sanity.sweep import monotone, unbounded

__all__ = ["PROBES_SCHEMA", "Flag", "Probes", "State", "broken_images", "check_all"]


def check_all(
    probes: Probes,
    *,
    chance: float,
    samples: int,
    scores: Mapping[str, Any],
    store: Literal["u8", "f32"],
    ids: frozenset[str],
    record: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """H1 to H15 of one defense, as JSON-able flags in their order.

    Args:
        probes: of the defense.
        chance: accuracy of guessing.
        samples: draws behind every gradient of a randomised defense.
        scores: of its cascade.
        store: what adversarial images of the cascade are stored as.
        ids: digests of the images of every defense.
        record: what was attacked.
    """
    flags = [
        within_budget(probes, scores["largest_share"], store),
        monotone(probes),
        unbounded(probes, chance),
        order(probes),
        gradient_free(probes),
        steps(probes),
        retries(probes),
        gradient_check(probes),
        silent(probes),
        randomness(probes, samples),
        logits(probes),
        without_the_defense(probes, chance),
        losses(probes),
        statistics(scores, ids),
        provenance(record),
    ]
    return [asdict(flag) for flag in flags]

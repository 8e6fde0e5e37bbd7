"""The attacks on one defended classifier, one after the other, each on the images that survived those before it.

Cheap attacks go first, so that the expensive ones see few images (Croce and Hein 2020, AutoAttack). What counts is not
what an attack believes but the deployed pipeline's verdict on the image as it is stored, from a solve of its own.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stl_ray.attacks import Attack, AttackResult, Budget
from stl_ray.evaluation.shares import budget_share
from stl_ray.evaluation.threats import ThreatTier
from stl_ray.evaluation.tiers import OUT_OF_TIME, survivors
from stl_ray.models import Victim, in_loop, predict, tile_size

CLEAN_STATUS = "clean"
"""Status of the verdict on the image itself."""


@dataclass(frozen=True)
class Assault:
    """One attack of the cascade.

    Attributes:
        name: of the attack in tables.
        tier: what it knows.
        attack: the method with its options.
        victim: what it is crafted on.
    """

    name: str
    tier: ThreatTier
    attack: Attack
    victim: Victim


@dataclass(frozen=True)
class Rules:
    """What holds for every attack of a cascade.

    Attributes:
        budget: how far an image may go.
        store: what the images are stored as, "u8" or "f32".
        seed: the run seed.
        cascade: whether an image that fell is spared the attacks that follow; else every attack sees every image.
        seconds: that an attack may take on the images it is given at once; those it has not begun with by then are out
            of time. None: no limit, and a result that does not depend on the machine's speed.
    """

    budget: Budget
    store: Any
    seed: int
    cascade: bool = True
    seconds: float | None = None


def run_cascade(
    deployed: Victim,
    assaults: Sequence[Assault],
    rules: Rules,
    images: Tensor,
    labels: Tensor,
    ids: Sequence[str],
    *,
    earlier: Sequence[Sequence[dict[str, Any]]] | None = None,
    batch: int = 64,
    seen: Callable[[Assault, list[int], AttackResult], None] | None = None,
) -> list[list[dict[str, Any]]]:
    """The verdicts (`VERDICT`) of every image, the clean one first; an image's depend on itself alone.

    Args:
        deployed: gives the verdicts.
        assaults: in the order in which they are tried.
        rules: for all of them.
        images: (B, 3, H, W) float32 in [0, 1] on the 8-bit grid.
        labels: (B,) int64.
        ids: of the images.
        earlier: verdicts of every image on stored sets of adversarial images, which come before the assaults.
        batch: images that are attacked at once.
        seen: called with every attack, the positions that it was tried on, and what came of it.
    """
    clean = verdicts_on(deployed, images, ids)
    found: list[list[dict[str, Any]]] = [
        [_verdict("clean", ThreatTier.T0, prediction, CLEAN_STATUS)] for prediction in clean.tolist()
    ]
    for position, own in enumerate(earlier or []):
        found[position] += own
    everyone, truth = list(range(len(labels))), labels.tolist()
    for assault in assaults:
        start = time.monotonic()
        targets = survivors(truth, found) if rules.cascade else everyone
        for begin in range(0, len(targets), batch):
            positions = targets[begin : begin + batch]
            if rules.seconds is not None and time.monotonic() - start > rules.seconds:
                for position in positions:
                    found[position].append(_verdict(assault.name, assault.tier, -1, OUT_OF_TIME))
                continue
            own_ids = [ids[position] for position in positions]
            result = assault.attack(
                assault.victim,
                images[positions],
                labels[positions],
                budget=rules.budget,
                ids=own_ids,
                seed=rules.seed,
                store=rules.store,
            )
            if seen is not None:
                seen(assault, positions, result)
            predictions = verdicts_on(deployed, result.images, own_ids).tolist()
            shares = budget_share(result.images, images[positions], rules.budget).tolist()
            for row, position in enumerate(positions):
                found[position].append(
                    _verdict(
                        assault.name,
                        assault.tier,
                        predictions[row],
                        str(result.status[row]),
                        float(result.dissimilarity[row]),
                        float(result.linf[row]),
                        int(result.queries[row]),
                        shares[row],
                    )
                )
    return found


def verdicts_on(deployed: Victim, images: Tensor, ids: Sequence[str]) -> Tensor:
    """The deployed pipeline's class of every image, (B,), with the draws of a randomised defense keyed by the id."""
    size = tile_size(images.shape[-2], images.shape[-1], images.device)
    parts = [
        predict(in_loop(deployed, ids[start : start + size]), images[start : start + size])
        for start in range(0, len(images), size)
    ]
    return torch.cat(parts)


def _verdict(
    attack: str,
    tier: ThreatTier,
    prediction: int,
    status: str,
    dissimilarity: float = 0.0,
    linf: float = 0.0,
    queries: int = 0,
    share: float | None = None,
) -> dict[str, Any]:
    return {
        "attack": attack,
        "tier": str(tier),
        "prediction": prediction,
        "status": status,
        "dissimilarity": dissimilarity,
        "linf": linf,
        "queries": queries,
        "share": share,
    }

"""Every defense under attacks that know of it, and the checks on these attacks, as the job `evaluate` makes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

import stl_ray
from stl_ray.attacks import budget_of
from stl_ray.config import NamedAttack, TiersConfig
from stl_ray.evaluation import UNDEFENDED, VERDICTS_SCHEMA, fixed_ids, tier_scores, verdict_rows
from stl_ray.evaluation.batches import in_order
from stl_ray.evaluation.sanity import FINITE_DIFFERENCES, PROBES_SCHEMA, Stored, probe
from stl_ray.evaluation.tier_attacks import (
    CHECKED_TOGETHER,
    cascade_attacks_on,
    cascade_settings_of,
    checked_images,
    counts_within,
    stored_verdict,
    subject_of,
    threats_in_order,
)
from stl_ray.evaluation.tier_scores import UnderAttack
from stl_ray.images import to_tensor
from stl_ray.notebook.adversarial import AdversarialSet
from stl_ray.notebook.progress import Advance
from stl_ray.notebook.session import Session

Predictions = Mapping[tuple[str, str], pa.Table]


@dataclass(frozen=True)
class Attacked:
    """What became of every defense under the attacks of the tiers."""

    tiers: TiersConfig
    defenses: dict[str, UnderAttack]

    def scores(self, session: Session, chance: float) -> dict[str, Any]:
        """The part of scores.json that speaks of the tiers."""
        return tier_scores(
            self.defenses,
            self.tiers,
            sanity=session.asked.sanity,
            retrained=(),
            seed=session.asked.seed,
            chance=chance,
            version=stl_ray.__version__,
        )


def work_of_tiers(session: Session) -> int:
    """Images that defenses are attacked or checked on, each counted for each."""
    tiers = _tiers_of(session)
    if tiers is None:
        return 0
    attacked, checked = _positions(session, tiers.images), _checked(session, tiers)
    return len(session.defended) * len(attacked) + (len(session.defended) - 1) * len(checked)


def under_attack(
    session: Session, predictions: Predictions, adversarial: Mapping[str, AdversarialSet], advance: Advance
) -> Attacked | None:
    """Verdicts and probes of every defense; None where no attack is asked for.

    Args:
        session: what is attacked, and by what.
        predictions: on the adversarial sets, by (defense, set).
        adversarial: the sets, which count in the worst case where they are within the budget.
        advance: counts images.
    """
    tiers = _tiers_of(session)
    if tiers is None:
        return None
    earlier = [item for item in session.asked.attacks if counts_within(item, tiers.budget)]
    defenses = {}
    for name, defended in session.defended.items():
        attacks = cascade_attacks_on(name, tiers, defended, None)
        verdicts: dict[int, dict[str, Any]] = {}
        stored = _stored_verdicts(session.model.name, name, earlier, predictions, adversarial)
        settings = cascade_settings_of(tiers, session.asked.seed)
        advance(f"attack {name}", 0)
        for places, images, labels, ids in session.batches(session.images.pixels, _positions(session, tiers.images)):
            rows = verdict_rows(defended, attacks, settings, images, labels, ids, stored)
            verdicts |= dict(zip(places, rows, strict=True))
            advance(f"attack {name}", len(places))
        defenses[name] = UnderAttack(
            defended,
            threats_in_order(session.model.name, name, earlier, attacks, retrained=False),
            in_order(verdicts, VERDICTS_SCHEMA),
            None if name == UNDEFENDED else _probes(session, tiers, name, adversarial, advance),
        )
    return Attacked(tiers, defenses)


def _stored_verdicts(
    classifier: str,
    name: str,
    earlier: Sequence[NamedAttack],
    predictions: Predictions,
    adversarial: Mapping[str, AdversarialSet],
) -> dict[str, list[dict[str, Any]]]:
    """By id, the verdicts on the sets that count in the worst case."""
    verdicts: dict[str, list[dict[str, Any]]] = {}
    for item in earlier:
        decided = predictions[name, item.name].to_pylist()
        for row, measured in zip(decided, adversarial[item.name].table.to_pylist(), strict=True):
            verdicts.setdefault(row["id"], []).append(
                stored_verdict(item, classifier, name, row, measured, retrained=False)
            )
    return verdicts


def _probes(
    session: Session, tiers: TiersConfig, name: str, adversarial: Mapping[str, AdversarialSet], advance: Advance
) -> pa.Table:
    """The answers of a defense to every probe, in the batches of the job, since some probes compare an image with its batch."""
    subject = subject_of(session.defended[name], tiers, session.asked.seed, session.asked.sanity)
    sets = [item for item in session.asked.attacks if item.budget == "per_image"]
    checked = _checked(session, tiers)
    size = CHECKED_TOGETHER["cpu" if session.model.device == "cpu" else "cuda"]
    rows: dict[int, dict[str, Any]] = {}
    advance(f"check {name}", 0)
    for start in range(0, len(checked), size):
        first = set(checked[start : start + FINITE_DIFFERENCES]) if start == 0 else set()
        for places, images, labels, ids in session.batches(session.images.pixels, checked[start : start + size]):
            stored = {
                item.name: Stored(
                    to_tensor([adversarial[item.name].pixels[place] for place in places]).to(images.device),
                    budget_of(item),
                    item.store,
                )
                for item in sets
            }
            probes = probe(subject, images, labels, ids, [place in first for place in places], stored)
            rows |= dict(zip(places, probes, strict=True))
            advance(f"check {name}", len(places))
    return in_order(rows, PROBES_SCHEMA)


def _tiers_of(session: Session) -> TiersConfig | None:
    tiers = session.asked.tiers
    return tiers if tiers is not None and tiers.attacks else None


def _positions(session: Session, count: int | None) -> list[int]:
    """Where the images are that are the same for every defense: those whose ids hash lowest."""
    chosen = set(fixed_ids(session.images.ids, count))
    return [place for place, name in enumerate(session.images.ids) if name in chosen]


def _checked(session: Session, tiers: TiersConfig) -> list[int]:
    return _positions(session, checked_images(tiers.images, session.asked.sanity))

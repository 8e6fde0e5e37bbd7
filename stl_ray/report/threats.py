"""What the attackers behind the accuracy tables knew: a paragraph for every threat tier among their cells."""

from stl_ray.report.names import attack_label, defense_label, listed, unique
from stl_ray.report.records import ScoreCell, Scores
from stl_ray.threats import KNOWLEDGE, ThreatTier

_ADAPTIVE = (ThreatTier.BPDA, ThreatTier.WHITE_BOX)
_NO_CLAIM = "A high accuracy in these cells is not a claim of robustness."
_ONE_ATTACK = "Each is one attack; a claim of robustness rests on the worst case over many."


def threat_sentences(scores: Scores | None) -> tuple[str, ...]:
    """A paragraph for every tier (which cells are of it, what the attacker knew), and where adaptive attacks stand."""
    if scores is None:
        return (_adaptive("are not in these tables"),)
    tiers = sorted({cell.threat for cell in scores.cells} - {ThreatTier.CLEAN})
    stored = [tier for tier in tiers if tier in _ADAPTIVE]
    if scores.tiers is not None:
        place = "have a section of their own, whose worst case is what a claim of robustness rests on"
    elif stored:
        place = f"are in these tables one by one ({listed(stored)}), without the worst case over several"
    else:
        place = "are not in these tables"
    return (*(_tier(scores, tier) for tier in tiers), _adaptive(place))


def _tier(scores: Scores, tier: str) -> str:
    claim = _ONE_ATTACK if tier in (*_ADAPTIVE, ThreatTier.QUERY) else _NO_CLAIM
    return f"Threat tier {tier}, under {_sets(scores, tier)}: {KNOWLEDGE[ThreatTier(tier)]}. {claim}"


def _adaptive(place: str) -> str:
    return (
        f"Adaptive attacks, which differentiate through the defense, {place}. Under BPDA the paper itself reports STL at "
        "0.16 and STL (cluster) at 0.19 on CIFAR-10 (Table 4), and 0.01 on ImageNet."
    )


def _sets(scores: Scores, tier: str) -> str:
    """The attack sets of a tier; their rows too, where a set has another tier in other rows."""
    labels = []
    for attack in unique(cell.attack for cell in scores.cells if cell.threat == tier):
        cells = [cell for cell in scores.cells if cell.attack == attack]
        # Of a defense the settings may have tiers of their own: a set is crafted on one of their classifiers.
        several = {cell.defense for cell in cells for other in cells if _differ(cell, other)}
        rows = unique(
            f"{defense_label(cell.defense)}{f', {cell.setting}' if cell.defense in several else ''}"
            for cell in cells
            if cell.threat == tier
        )
        whole = all(cell.threat == tier for cell in cells)
        where = "" if whole else f" (in the row{'s' * (len(rows) > 1)} {listed(rows)})"
        labels.append(f"{attack_label(attack)}{where}")
    return listed(labels)


def _differ(one: ScoreCell, other: ScoreCell) -> bool:
    return one.defense == other.defense and one.threat != other.threat

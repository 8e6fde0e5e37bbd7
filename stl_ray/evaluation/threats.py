"""What the attacker knew: the threat tier beside every accuracy."""

from enum import StrEnum

from stl_ray.config import AttackedConfig
from stl_ray.store.layout import CLEAN


class ThreatTier(StrEnum):
    """Tiers from none to full knowledge; a row of one tier says nothing of a higher one."""

    T0 = "T0"
    T1A = "T1a"
    T1B = "T1b"
    T2 = "T2"
    T3 = "T3"
    T4 = "T4"
    T5 = "T5"
    CHECKS = "checks"


KNOWLEDGE: dict[ThreatTier, str] = {
    ThreatTier.T0: "clean images: no attacker",
    ThreatTier.T1A: "grey-box: crafted on the vanilla classifier, without knowledge of the defense, as the paper's tables "
    "appear to be",
    ThreatTier.T1B: "grey-box: crafted on the classifier behind the defense, without the defense",
    ThreatTier.T2: "transfer: crafted on a substitute of the same defense by its strongest gradient, with another space, "
    "another seed and a classifier of its own",
    ThreatTier.T3: "adaptive: crafted through the defense, its Jacobian taken for the identity (BPDA)",
    ThreatTier.T4: "white-box: crafted through the defense with its exact gradient",
    ThreatTier.T5: "gradient-free: crafted by queries to the deployed pipeline",
    ThreatTier.CHECKS: "whatever the sanity checks tried within the budget: restarts, other losses, steps and clusters",
}
"""One line on each, as the report shows it."""

GREY_BOX = (ThreatTier.T1A, ThreatTier.T1B)
"""Tiers whose accuracies are no claim of robustness."""


_THROUGH = {"bpda": ThreatTier.T3, "exact": ThreatTier.T4, "none": ThreatTier.T5}


def threat_of(attack: str, defense: str, crafted: AttackedConfig | None = None) -> ThreatTier:
    """The tier of an attack set, or of the clean images, against one defense.

    Args:
        attack: the set's name.
        defense: name of the defense that it is scored on.
        crafted: what it was crafted on; None: the vanilla classifier.
    """
    if attack == CLEAN:
        return ThreatTier.T0
    if crafted is None:
        return ThreatTier.T1A
    if crafted.defense is None:
        # Another classifier than the one behind this defense is as good as the vanilla one.
        return ThreatTier.T1B if crafted.classifier == defense else ThreatTier.T1A
    return _THROUGH[crafted.gradient] if crafted.defense == defense else ThreatTier.T2

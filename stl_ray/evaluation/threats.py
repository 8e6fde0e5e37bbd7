"""What the attacker knew: the threat tier beside every accuracy."""

from enum import StrEnum

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


KNOWLEDGE: dict[ThreatTier, str] = {
    ThreatTier.T0: "clean images: no attacker",
    ThreatTier.T1A: "grey-box: crafted on the vanilla classifier, without knowledge of the defense, as the paper's tables "
    "appear to be",
    ThreatTier.T1B: "grey-box: crafted on the classifier behind the defense, without the defense",
    ThreatTier.T2: "transfer: crafted with exact gradients on a substitute of the same defense, with another space, another "
    "seed and a classifier of its own",
    ThreatTier.T3: "adaptive: crafted through the defense, its Jacobian taken for the identity (BPDA)",
    ThreatTier.T4: "white-box: crafted through the defense with its exact gradient",
    ThreatTier.T5: "gradient-free: crafted by queries to the deployed pipeline",
}
"""One line on each, as the report shows it."""

GREY_BOX = (ThreatTier.T1A, ThreatTier.T1B)
"""Tiers whose accuracies are no claim of robustness."""


def threat_of(attack: str) -> ThreatTier:
    """The tier of an attack set, all of which are crafted on the vanilla classifier, or of the clean images."""
    return ThreatTier.T0 if attack == CLEAN else ThreatTier.T1A

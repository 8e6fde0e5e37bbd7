"""Threat tiers: the attacker's knowledge behind every accuracy."""

from enum import StrEnum

from stl_ray.config import AttackedConfig
from stl_ray.store.layout import CLEAN


class ThreatTier(StrEnum):
    """Tiers from no attacker to full knowledge; an accuracy in one tier says nothing about higher tiers."""

    CLEAN = "T0"
    GREY_BOX_VANILLA = "T1a"
    GREY_BOX_DEPLOYED = "T1b"
    TRANSFER = "T2"
    BPDA = "T3"
    WHITE_BOX = "T4"
    QUERY = "T5"
    CHECKS = "checks"


KNOWLEDGE: dict[ThreatTier, str] = {
    ThreatTier.CLEAN: "clean images: no attacker",
    ThreatTier.GREY_BOX_VANILLA: "grey-box: crafted on a classifier alone, which is the vanilla one where the "
    "configuration names no other, without knowledge of the defense, as the paper's tables appear to be",
    ThreatTier.GREY_BOX_DEPLOYED: "grey-box: crafted on the classifier behind the defense, without the defense",
    ThreatTier.TRANSFER: "transfer: crafted through another defense than that of the row, or in front of another "
    "classifier, such as a substitute with another space, another seed and a classifier of its own",
    ThreatTier.BPDA: "adaptive: crafted through the defense, its Jacobian taken for the identity (BPDA)",
    ThreatTier.WHITE_BOX: "white-box: crafted through the defense with its exact gradient, or where it has none with that of a "
    "differentiable stand-in, which is only near it",
    ThreatTier.QUERY: "gradient-free: crafted by queries to the deployed pipeline",
    ThreatTier.CHECKS: "whatever the sanity checks tried within the budget: restarts, other losses, steps and clusters",
}
"""Description of every tier, as the report has it."""

GREY_BOX = (ThreatTier.GREY_BOX_VANILLA, ThreatTier.GREY_BOX_DEPLOYED)
"""Tiers whose accuracies do not support a claim of robustness."""


_THROUGH = {
    "bpda": ThreatTier.BPDA,
    "stand_in": ThreatTier.WHITE_BOX,
    "exact": ThreatTier.WHITE_BOX,
    "none": ThreatTier.QUERY,
}


def threat_of(
    attack: str, classifier: str, defense: str, crafted: AttackedConfig | None = None, *, retrained: bool = False
) -> ThreatTier:
    """Threat tier of an attack set, or of the clean images, against one classifier behind one defense.

    Args:
        attack: name of the set.
        classifier: name of the scored classifier.
        defense: name of the scored defense.
        crafted: the model that the set was crafted on; None: the scored classifier, without retraining and defense.
        retrained: whether the scored classifier is the one that was retrained for the defense.
    """
    if attack == CLEAN:
        return ThreatTier.CLEAN
    if crafted is None:
        return ThreatTier.GREY_BOX_VANILLA
    behind = crafted.classifier in (None, classifier) and crafted.retrained_for == (defense if retrained else None)
    if crafted.defense is None:
        # Any classifier but the one that was retrained for this defense counts as vanilla.
        return ThreatTier.GREY_BOX_DEPLOYED if behind and retrained else ThreatTier.GREY_BOX_VANILLA
    return _THROUGH[crafted.gradient] if behind and crafted.defense == defense else ThreatTier.TRANSFER

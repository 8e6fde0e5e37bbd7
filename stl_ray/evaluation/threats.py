"""What the attacker knew: the threat tier beside every accuracy."""

from enum import StrEnum

from stl_ray.store.layout import CLEAN


class ThreatTier(StrEnum):
    """Tiers from none to full knowledge; a row of one tier says nothing of a higher one."""

    T0 = "T0"  # clean images
    # Crafted on the vanilla classifier without knowledge of any defense, as the paper's tables appear to be.
    T1A = "T1a"


def threat_of(attack: str) -> ThreatTier:
    """The tier of an attack set, all of which are crafted on the vanilla classifier, or of the clean images."""
    return ThreatTier.T0 if attack == CLEAN else ThreatTier.T1A

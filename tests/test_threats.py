import pytest

from stl_ray.config import AttackedConfig
from stl_ray.threats import KNOWLEDGE, ThreatTier, threat_of


def test_identity_clean_is_the_only_set_without_an_attacker():
    assert threat_of("clean", "cnn", "stl") is ThreatTier.CLEAN
    assert threat_of("fgsm-0.08", "cnn", "stl") is ThreatTier.GREY_BOX_VANILLA
    assert (str(ThreatTier.CLEAN), str(ThreatTier.GREY_BOX_VANILLA)) == ("T0", "T1a")


@pytest.mark.parametrize(
    ("crafted", "tier"),
    [
        ({}, "T1a"),
        ({"retrained_for": "jpeg"}, "T1a"),
        ({"defense": "stl", "gradient": "bpda"}, "T3"),
        ({"defense": "stl", "gradient": "exact"}, "T4"),
        ({"defense": "stl", "gradient": "stand_in"}, "T4"),
        ({"defense": "stl", "gradient": "none"}, "T5"),
        ({"defense": "jpeg", "gradient": "bpda"}, "T2"),
        ({"classifier": "cnn", "defense": "stl", "gradient": "bpda"}, "T3"),
        ({"classifier": "another", "defense": "stl", "gradient": "exact"}, "T2"),
        ({"classifier": "another", "retrained_for": "stl"}, "T1a"),
    ],
)
def test_identity_a_set_by_what_it_was_crafted_on(crafted, tier):
    assert threat_of("own", "cnn", "stl", AttackedConfig.model_validate(crafted)) == tier


@pytest.mark.parametrize(
    ("crafted", "vanilla", "retrained"),
    [
        ({"retrained_for": "stl"}, "T1a", "T1b"),
        ({"retrained_for": "stl", "defense": "stl"}, "T2", "T4"),
        ({"defense": "stl"}, "T4", "T2"),
        ({"retrained_for": "jpeg", "defense": "stl"}, "T2", "T2"),
        ({}, "T1a", "T1a"),
    ],
)
def test_identity_only_through_the_classifier_that_is_scored_is_white_box(crafted, vanilla, retrained):
    set_on = AttackedConfig.model_validate(crafted)
    assert threat_of("own", "cnn", "stl", set_on) == vanilla
    assert threat_of("own", "cnn", "stl", set_on, retrained=True) == retrained


def test_identity_every_tier_has_a_description():
    assert list(KNOWLEDGE) == list(ThreatTier)

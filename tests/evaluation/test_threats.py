from stl_ray.evaluation import KNOWLEDGE, ThreatTier, threat_of


def test_identity_clean_is_the_only_set_without_an_attacker():
    assert threat_of("clean") is ThreatTier.T0
    assert threat_of("fgsm-0.08") is ThreatTier.T1A
    assert (str(ThreatTier.T0), str(ThreatTier.T1A)) == ("T0", "T1a")


def test_identity_every_tier_says_what_it_knows():
    assert list(KNOWLEDGE) == list(ThreatTier)

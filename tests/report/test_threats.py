from stl_ray.report.threats import threat_sentences


def with_tiers(scores, tiers: dict[tuple[str, str], str]):
    """The scores, with these tiers of (attack set, defense); other cells keep theirs."""
    cells = [
        cell.model_copy(update={"threat": tiers.get((cell.attack, cell.defense), cell.threat)}) for cell in scores.cells
    ]
    return scores.model_copy(update={"cells": tuple(cells)})


def test_identity_sets_of_the_vanilla_classifier_are_one_tier(measured):
    tier, adaptive = threat_sentences(measured)
    assert tier.startswith(
        "Threat tier T1a, under FGSM-0.08, FGSM-0.04 and BIM-0.03: grey-box: crafted on a classifier"
    )
    assert tier.endswith("not a claim of robustness.")
    assert "are not in these tables" in adaptive


def test_certificate_every_tier_says_of_which_rows_it_is_and_what_was_known(measured):
    through_stl = {("bim-0.03", defense): "T2" for defense in ("none", "jpeg", "stl_cluster")}
    on_jpeg = {("fgsm-0.04", "jpeg"): "T1b"}
    mixed = with_tiers(measured, {**through_stl, ("bim-0.03", "stl"): "T4", **on_jpeg})
    *tiers, adaptive = threat_sentences(mixed)
    assert [text.partition(": ")[0] for text in tiers] == [
        "Threat tier T1a, under FGSM-0.08 and FGSM-0.04 (in the rows No defense, STL and STL (cluster))",
        "Threat tier T1b, under FGSM-0.04 (in the row JPEG)",
        "Threat tier T2, under BIM-0.03 (in the rows No defense, JPEG and STL (cluster))",
        "Threat tier T4, under BIM-0.03 (in the row STL)",
    ]
    assert "behind the defense" in tiers[1] and "another defense" in tiers[2] and "exact gradient" in tiers[3]
    assert ["not a claim of robustness" in text for text in tiers] == [True, True, True, False]
    assert "are in these tables one by one (T4)" in adaptive


def test_certificate_no_tier_is_claimed_that_no_cell_has(measured):
    everywhere = {(cell.attack, cell.defense): "T5" for cell in measured.cells if cell.attack != "clean"}
    queries, adaptive = threat_sentences(with_tiers(measured, everywhere))
    assert queries.startswith(
        "Threat tier T5, under FGSM-0.08, FGSM-0.04 and BIM-0.03: gradient-free: crafted by queries"
    )
    assert "T1a" not in queries + adaptive
    assert [text.split(",")[0] for text in threat_sentences(None)] == ["Adaptive attacks"]

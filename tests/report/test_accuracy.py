from stl_ray.report.accuracy import accuracy_table, difference_table, verdict
from stl_ray.report.records import Comparison, Scores


def with_differences(base: Scores, **differences: tuple[float, float]) -> Scores:
    """The scores with the intervals of STL's differences in the vanilla setting replaced, by attack (- as _)."""
    cells = []
    for cell in base.cells:
        key = cell.attack.replace("-", "_").replace(".", "")
        if (cell.setting, cell.defense) == ("vanilla", "stl") and key in differences:
            low, high = differences[key]
            comparison = Comparison(difference=(low + high) / 2, low=low, high=high, p=0.5)
            cell = cell.model_copy(update={"versus_none": comparison})
        cells.append(cell)
    return base.model_copy(update={"cells": tuple(cells)})


def strong(table) -> set[tuple[str, str]]:
    return {
        (row[0].text, column)
        for row in table.rows
        for column, cell in zip(table.columns, row, strict=True)
        if cell.strong
    }


def test_identity_rows_are_defenses_and_columns_attacks(measured):
    table = accuracy_table(measured, "vanilla")
    assert table.columns == ("Defense", "Clean", "FGSM-0.08", "FGSM-0.04", "BIM-0.03")
    assert [row[0].text for row in table.rows] == ["No defense", "JPEG", "STL", "STL (cluster)"]
    assert table.rows[0][1].text == "0.830"
    assert table.rows[0][1].note == "[0.772, 0.876]"


def test_identity_a_missing_cell_stays_empty(measured):
    cells = tuple(c for c in measured.cells if (c.defense, c.attack) != ("jpeg", "bim-0.03"))
    row = accuracy_table(measured.model_copy(update={"cells": cells}), "vanilla").rows[1]
    assert [cell.text for cell in row] == ["JPEG", "0.810", "0.100", "0.400", "–"]  # noqa: RUF001


def test_certificate_the_best_is_bold_only_where_pairing_separates_it(measured):
    # Clean: JPEG's interval holds 0, so no defense, though best, is not set apart; retrained, every interval is below 0.
    assert strong(accuracy_table(measured, "vanilla")) == {
        ("STL (cluster)", "FGSM-0.08"), ("STL (cluster)", "FGSM-0.04"), ("STL (cluster)", "BIM-0.03"),
    }  # fmt: skip
    assert ("No defense", "Clean") in strong(accuracy_table(measured, "retrained"))


def test_certificate_a_best_defense_whose_interval_holds_0_is_not_bold(measured):
    cells = tuple(c for c in measured.cells if c.defense in ("none", "stl"))
    table = accuracy_table(measured.model_copy(update={"cells": cells}), "vanilla")
    assert ("STL", "FGSM-0.04") in strong(table)
    assert ("STL", "BIM-0.03") not in strong(table)


def test_certificate_differences_are_bold_where_the_interval_excludes_0(measured):
    table = difference_table(measured, "vanilla")
    assert [row[0].text for row in table.rows] == ["JPEG", "STL", "STL (cluster)"]
    assert [cell.strong for cell in table.rows[1][1:]] == [True, True, True, False]
    assert table.rows[1][2].text == "+0.150"
    assert table.rows[1][2].note.endswith("p < 0.001")


def test_identity_differences_show_the_adjusted_p_and_say_so(measured):
    def versus(cell, **changes):
        none = cell.versus_none
        return cell.model_copy(update={"versus_none": none and none.model_copy(update=changes)})

    cells = tuple(versus(cell, p=0.001, p_adjusted=0.012) for cell in measured.cells)
    table = difference_table(measured.model_copy(update={"cells": cells}), "vanilla")
    assert all(cell.note.endswith("p = 0.012") for row in table.rows for cell in row[1:])
    assert "adjusted by Holm's method for the 12 comparisons of this table" in table.footnote
    older = tuple(versus(cell, p=0.25, p_adjusted=None) for cell in measured.cells)
    table = difference_table(measured.model_copy(update={"cells": older}), "vanilla")
    assert all(cell.note.endswith("p = 0.250") for row in table.rows for cell in row[1:])
    assert "No correction for the number of comparisons: these scores are of an earlier version" in table.footnote


def test_certificate_the_verdict_holds_only_if_every_interval_is_above_0(measured):
    stl, cluster = verdict(measured, "vanilla", ["stl", "stl_cluster"])
    assert stl.startswith("Vanilla classifier, STL: above no defense under FGSM-0.08 (+0.150 [")
    assert "not distinguishable from no defense under BIM-0.03 (+0.010 [" in stl
    assert "is not confirmed here" in stl
    assert "above no defense under every attack: FGSM-0.08" in cluster
    assert "holds here" in cluster


def test_certificate_the_verdict_says_where_the_defense_is_below(measured):
    changed = with_differences(measured, bim_003=(-0.2, -0.1), fgsm_004=(-0.2, -0.01), fgsm_008=(-0.3, -0.2))
    (sentence,) = verdict(changed, "vanilla", ["stl"])
    assert "above no defense under FGSM" not in sentence
    assert "below no defense under FGSM-0.08 (-0.250 [-0.300, -0.200]), FGSM-0.04" in sentence
    assert "and BIM-0.03 (-0.150" in sentence
    assert "is not confirmed here" in sentence


def test_certificate_an_attack_without_a_score_does_not_count_as_won(measured):
    cells = tuple(c for c in measured.cells if (c.defense, c.attack) != ("stl_cluster", "bim-0.03"))
    (sentence,) = verdict(measured.model_copy(update={"cells": cells}), "vanilla", ["stl_cluster"])
    assert "is not confirmed here" in sentence


def test_identity_clean_scores_alone_bring_no_verdict_on_attacks(measured):
    cells = tuple(c for c in measured.cells if c.attack == "clean")
    (sentence,) = verdict(measured.model_copy(update={"cells": cells}), "vanilla", ["stl"])
    assert sentence == "Vanilla classifier, STL: on clean images the difference is -0.080 [-0.121, -0.041]."
    assert verdict(measured, "vanilla", ["absent"]) == ()

"""The tables behind the averages say the scores' own counts, in the row and column of their cell."""

from stl_ray.report.blocks import EMPTY
from stl_ray.report.records import Scores
from stl_ray.report.subgroups import subgroup_blocks
from stl_ray.statistics import wilson
from tests.report.conftest import scores


def share(count: int, total: int) -> dict:
    interval = wilson(count, total)
    return {"count": count, "total": total, "share": interval.estimate, "low": interval.low, "high": interval.high}


def with_subgroups() -> Scores:
    plain = scores()
    for cell in plain["cells"]:
        cell["initially_right"] = share(cell["correct"] // 2, 160)
        if cell["versus_none"]:
            cell["versus_none"] |= {"gained": cell["correct"], "lost": 3}
        if cell["defense"] == "stl_cluster":
            cell["by_cluster"] = [
                {"cluster": number, "defended": share(number, 50), "undefended": share(1, 50)} for number in (2, 7)
            ]
    return Scores.model_validate(plain, strict=False)


def test_identity_each_cell_says_its_own_counts():
    record = with_subgroups()
    tables = {table.name: table for table in subgroup_blocks(record)}
    assert [name for name in tables if name.endswith("vanilla")] == ["initially-right-vanilla", "saved-broken-vanilla"]
    cells = {(cell.defense, cell.attack): cell for cell in record.cells if cell.setting == "vanilla"}
    attacks = list(dict.fromkeys(attack for _, attack in cells))
    defenses = list(dict.fromkeys(defense for defense, _ in cells))
    for row, defense in zip(tables["initially-right-vanilla"].rows, defenses, strict=True):
        assert [one.text for one in row[1:]] == [f"{cells[defense, a].correct // 2 / 160:.3f}" for a in attacks]
    for row, defense in zip(tables["saved-broken-vanilla"].rows, defenses[1:], strict=True):
        assert [one.text for one in row[1:]] == [f"+{cells[defense, a].correct} / -3" for a in attacks]


def test_identity_clusters_stand_beside_no_defense_on_the_same_images():
    (table,) = [table for table in subgroup_blocks(with_subgroups()) if table.name == "clusters-vanilla-stl_cluster"]
    assert [[cell.text for cell in row[:3]] for row in table.rows] == [["2", "50", "0.040"], ["7", "50", "0.140"]]
    low, high = wilson(7, 50)[1:]
    assert table.rows[1][2].note == f"[{low:.3f}, {high:.3f}; 0.020]"


def test_identity_scores_of_an_earlier_version_have_no_such_tables():
    assert list(subgroup_blocks(Scores.model_validate(scores(), strict=False))) == []
    record = with_subgroups()
    cells = tuple(
        cell.model_copy(update={"by_cluster": None}) if cell.attack == "clean" else cell for cell in record.cells
    )
    tables = subgroup_blocks(record.model_copy(update={"cells": cells}))
    (table,) = [table for table in tables if table.name == "clusters-retrained-stl_cluster"]
    assert "Clean" not in table.columns and EMPTY not in table.rows[0]

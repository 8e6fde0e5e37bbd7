"""The benchmark runs and says something; how fast anything is, no test can tell."""

import pytest

from benchmarks.strata import routing_speed


@pytest.fixture
def page(tmp_path, capsys) -> str:
    output = tmp_path / "results" / "page.md"
    assert routing_speed.main(["--references", "300", "900", "--queries", "20", "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert output.read_text(encoding="utf-8").strip() == printed.strip()
    return printed


def test_identity_a_row_for_every_number_of_references(page: str) -> None:
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith(("| 300", "| 900"))]
    assert [row[0] for row in rows] == ["300", "900", "300", "900"]
    for row in rows[:2]:
        assert all(float(rate) > 0 for rate in row[1:4])
    for row in rows[2:]:
        assert row[1] == "0 of 20"
        assert all(cell.endswith(" of 20") for cell in row[2:])

from stl_ray.report.blocks import Cell, Table
from stl_ray.report.portrait import Portrait
from stl_ray.report.terminal import WIDTH, portrait_text


def test_identity_columns_are_aligned_and_long_facts_wrapped():
    rows = ((Cell("a"), Cell("1.5")), (Cell("longer", note="chosen"), Cell("12.25")))
    table = Table("Things", ("Name", "Value"), rows, footnote="What it is.")
    facts = {"one": "short", "another": "word " * 40}
    lines = portrait_text(Portrait(facts, (table,), ())).splitlines()
    assert lines[0] == "one      short"
    assert lines[1].startswith("another  word") and lines[2].startswith(" " * 9 + "word")
    assert max(map(len, lines)) <= WIDTH
    assert lines[-5:] == [
        "Things",
        "    Name           Value",
        "    a                1.5",
        "    longer chosen  12.25",
        "    What it is.",
    ]

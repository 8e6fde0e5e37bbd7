from hypothesis import given
from hypothesis import strategies as st

from stl_ray.report.blocks import Cell, Table
from stl_ray.report.portrait import Portrait
from stl_ray.report.terminal import WIDTH, portrait_text
from stl_ray.text import plain


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


@given(st.text(st.characters(exclude_categories=())))
def test_invariant_a_row_is_a_line_whatever_its_texts(text):
    table = Table(text, ("Name", text), ((Cell(text, note=text), Cell("1")), (Cell("a"), Cell("2"))))
    said = portrait_text(Portrait({"file": f"file {text}"}, (table,), ()))
    facts, _, rest = said.partition("\n\n")
    assert facts.startswith("file  file")
    assert len(rest.split("\n")) == 5
    assert all(plain(line) == line for line in said.split("\n"))

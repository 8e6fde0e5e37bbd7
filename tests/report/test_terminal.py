from hypothesis import given
from hypothesis import strategies as st

from stl_ray.report.blocks import Cell, Figure, Table, Text
from stl_ray.report.page import fragment
from stl_ray.report.portrait import Portrait
from stl_ray.report.terminal import WIDTH, blocks_text, portrait_text
from stl_ray.text import plain


def test_identity_columns_are_aligned_and_long_facts_wrapped():
    rows = ((Cell("a"), Cell("1.5")), (Cell("longer", note="chosen"), Cell("12.25")))
    table = Table("things", "Things", ("Name", "Value"), rows, footnote="What it is.")
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
    table = Table("odd", text, ("Name", text), ((Cell(text, note=text), Cell("1")), (Cell("a"), Cell("2"))))
    said = portrait_text(Portrait({"file": f"file {text}"}, (table,), ()))
    facts, _, rest = said.partition("\n\n")
    assert facts.startswith("file  file")
    assert len(rest.split("\n")) == 4
    assert all(plain(line) == line for line in said.split("\n"))


BLOCKS = [
    Text("word " * 40, kind="caveat"),
    Table(
        "things",
        "Things <i>",
        ("Name", "Value"),
        ((Cell("a", strong=True), Cell("1.5", note="[1, 2]")),),
        footnote="All.",
    ),
    Table("more", "More", ("Name",), ((Cell("b"),),), folded=True),
    Figure("picture", "A picture", b"\x89PNG\r\n\x1a\n" + bytes(20)),
]


def test_identity_blocks_as_text_are_what_a_reader_sees_unopened():
    paragraph, table = blocks_text(BLOCKS).split("\n\n")
    assert paragraph.startswith("word word") and max(map(len, paragraph.splitlines())) <= WIDTH
    assert table.splitlines() == ["Things <i>", "    Name       Value", "    a     1.5 [1, 2]", "    All."]


def test_identity_blocks_as_a_piece_of_a_page():
    page = fragment(BLOCKS)
    assert page.strip().startswith('<div class="stl-ray">') and page.strip().endswith("</div>")
    assert '<p class="caveat">word' in page and "Things &lt;i&gt;" in page
    assert "<strong>a</strong>" in page and "<summary>More</summary>" in page and "data:image/png;base64," in page

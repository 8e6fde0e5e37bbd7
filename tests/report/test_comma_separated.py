import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from stl_ray.report.blocks import EMPTY, Cell, Table
from stl_ray.report.comma_separated import comma_separated
from stl_ray.text import plain

ANY = st.text(st.characters(exclude_categories=()) | st.sampled_from('",;\r\n\t='))


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.encode().decode(), newline=""), strict=True))


def test_identity_notes_have_columns_of_their_own():
    rows = (
        (Cell("STL"), Cell("0.500", note="[0.4, 0.6]", strong=True), Cell("none")),
        (Cell("JPEG"), EMPTY, Cell("H1, H8")),
    )
    table = Table("t", "Caption", ("Defense", "FGSM", "Flags"), rows, notes="interval")
    assert comma_separated(table) == (
        'Defense,FGSM,FGSM interval,Flags\r\nSTL,0.500,"[0.4, 0.6]",none\r\nJPEG,,,"H1, H8"\r\n'
    )


def test_identity_a_table_without_rows_has_its_header():
    assert comma_separated(Table("t", "Caption", ("A", "B"), ())) == "A,B\r\n"


@given(ANY)
def test_roundtrip_any_text(text):
    table = Table("t", text, (text, "B"), ((Cell(text), Cell(text, note="n")), (Cell("a"), Cell("b", note=text))))
    shown = "" if text == EMPTY.text else plain(text)
    assert read(comma_separated(table)) == [
        [plain(text), "B", "B note"],
        [shown, plain(text), "n"],
        ["a", "b", plain(text)],
    ]

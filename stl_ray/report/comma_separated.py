"""A table as CSV, as the page shows it: RFC 4180 (UTF-8, CRLF, quotes where they are needed), for spreadsheets and data frames.

A cell's note has a column of its own, after that of the value; what the page shows as a dash is empty.
"""

import csv
import io

from stl_ray.report.blocks import EMPTY, Cell, Table
from stl_ray.text import plain


def comma_separated(table: Table) -> str:
    """The columns' names, then a record for each row; a column whose cells have notes is followed by `NAME` and `Table.notes`."""
    noted = [any(row[number].note for row in table.rows) for number in range(len(table.columns))]
    header = [[name, f"{name} {table.notes}"] for name in table.columns]
    rows = [[_texts(cell) for cell in row] for row in table.rows]
    written = io.StringIO()
    csv.writer(written).writerows(
        [plain(text) for texts, both in zip(row, noted, strict=True) for text in texts[: 1 + both]]
        for row in (header, *rows)
    )
    return written.getvalue()


def _texts(cell: Cell) -> list[str]:
    return ["" if cell.text == EMPTY.text else cell.text, cell.note]

"""The blocks of a page. Built once, rendered twice: as HTML and as Markdown."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Text:
    """A paragraph. `kind` says how it stands out: a missing input, a warning, a finding."""

    text: str
    kind: Literal["plain", "missing", "caveat", "finding"] = "plain"


def missing(path: str, job: str) -> Text:
    """The paragraph in place of a file that a job is still to write."""
    return Text(f"Not here yet: {path}. The job `{job}` writes it.", kind="missing")


@dataclass(frozen=True)
class Cell:
    """A table cell: the value, a smaller note after it, and whether it stands out."""

    text: str
    note: str = ""
    strong: bool = False


EMPTY = Cell("–")  # noqa: RUF001 - an en dash, as tables have it


@dataclass(frozen=True)
class Table:
    """A table; the first column names the rows.

    Attributes:
        name: its path in tables/ without the extension.
        caption: what it shows.
        columns: their headings.
        rows: of as many cells as there are columns.
        footnote: how to read it.
        folded: whether the reader opens it.
        notes: what the notes of its cells are, in a word.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    footnote: str = ""
    folded: bool = False
    notes: str = "note"


@dataclass(frozen=True)
class Figure:
    """A picture, as PNG bytes, a chart as SVG too; `name` is its path in figures/ without the extension."""

    name: str
    caption: str
    png: bytes
    svg: bytes | None = None


@dataclass(frozen=True)
class Listing:
    """Verbatim text that the reader opens."""

    caption: str
    text: str


Block = Text | Table | Figure | Listing


@dataclass(frozen=True)
class Section:
    """A heading, the anchor that the table of contents points to, and the blocks below."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]

"""A portrait, and blocks of the page, as plain text for a terminal."""

import textwrap
from collections.abc import Iterable, Mapping

from stl_ray.report.blocks import Block, Cell, Table, Text
from stl_ray.report.portrait import Portrait
from stl_ray.text import columns, plain

WIDTH = 110


def portrait_text(portrait: Portrait) -> str:
    """The facts, then the tables."""
    return "\n\n".join([_facts(portrait.facts), *map(_table, portrait.tables)])


def blocks_text(blocks: Iterable[Block]) -> str:
    """Paragraphs and tables; figures, and what a reader of the page would have to open, are left out."""
    parts = [
        _table(block) if isinstance(block, Table) else textwrap.fill(plain(block.text), WIDTH)
        for block in blocks
        if isinstance(block, Text) or (isinstance(block, Table) and not block.folded)
    ]
    return "\n\n".join(parts)


def indented(text: str) -> str:
    """A paragraph, wrapped and set in."""
    return textwrap.fill(text, WIDTH, initial_indent="    ", subsequent_indent="    ")


def _facts(facts: Mapping[str, str]) -> str:
    """One fact a line, its name before it; a long one goes on below."""
    indent = max(map(len, facts)) + 2
    lines = (
        textwrap.fill(f"{name:<{indent}}{plain(text)}", WIDTH, subsequent_indent=" " * indent)
        for name, text in facts.items()
    )
    return "\n".join(lines)


def _table(table: Table) -> str:
    """The caption, the columns, the footnote."""
    lines = columns([table.columns, *([_text(cell) for cell in row] for row in table.rows)])
    footnote = [indented(plain(table.footnote))] if table.footnote else []
    return "\n".join([plain(table.caption), *(f"    {line}" for line in lines), *footnote])


def _text(cell: Cell) -> str:
    return f"{cell.text} {cell.note}".rstrip()

"""A portrait as plain text for a terminal."""

import textwrap
from collections.abc import Mapping

from stl_ray.report.blocks import Cell, Table
from stl_ray.report.portrait import Portrait

WIDTH = 110


def portrait_text(portrait: Portrait) -> str:
    """The facts, then the tables."""
    return "\n\n".join([_facts(portrait.facts), *map(_table, portrait.tables)])


def indented(text: str) -> str:
    """A paragraph, wrapped and set in."""
    return textwrap.fill(text, WIDTH, initial_indent="    ", subsequent_indent="    ")


def _facts(facts: Mapping[str, str]) -> str:
    """One fact a line, its name before it; a long one goes on below."""
    indent = max(map(len, facts)) + 2
    lines = (
        textwrap.fill(f"{name:<{indent}}{text}", WIDTH, subsequent_indent=" " * indent) for name, text in facts.items()
    )
    return "\n".join(lines)


def _table(table: Table) -> str:
    """The caption, aligned columns (the first to the left, the others to the right), the footnote."""
    grid = [list(table.columns), *([_text(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = (
        "  ".join(f"{text:{'>' if position else '<'}{widths[position]}}" for position, text in enumerate(row))
        for row in grid
    )
    return "\n".join([table.caption, *(f"    {line}" for line in lines), indented(table.footnote)])


def _text(cell: Cell) -> str:
    return f"{cell.text} {cell.note}".rstrip()

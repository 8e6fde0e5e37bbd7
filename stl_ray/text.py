"""Any text as one line that a terminal, a log and a page can show. Imports nothing of ours, so every room may use it.

Names of classes, files and hosts, and what other programs say of them, may hold line breaks, the commands of a terminal, marks that
turn the text around them, or bytes that are no text. These are shown as their escapes; all else is shown as it is.
"""

import re
from collections.abc import Sequence

from rich.cells import cell_len

# Control characters, separators of lines and paragraphs, what changes the direction of its surroundings, lone surrogates.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    r"""The text on one line, without effects: a line break becomes `\n`, an escape `\x1b`, a byte that is no text `\udcff`."""
    return _UNSEEN.sub(lambda match: escaped(match[0]), text)


def said(error: BaseException) -> str:
    """The kind of another library's error and the first line of what it says: `ValueError: no such thing`."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def escaped(character: str) -> str:
    r"""The escape of a character, such as `\n` or `\u732b`."""
    return character.encode("unicode_escape").decode()


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row of cells, the first row the heading; all columns but the first are right-aligned.

    The widths are a terminal's, in which letters of Chinese, Japanese and Korean take two columns.
    """
    grid = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*grid, strict=True)]
    return ["  ".join(map(_filled, row, widths, [False] + [True] * len(row))).rstrip() for row in grid]


def _filled(text: str, width: int, right: bool) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if right else text + blanks

r"""A table as LaTeX: a float with `tabular` and the rules of the package booktabs, to be `\input` into a paper.

Every text comes out as it is. LaTeX's own characters are commands; hyphens, quotes and commas that would join to a dash or another
quote are kept apart; blanks are kept; a bracket or an asterisk is in braces, since at the start of a row it would belong to
the `\\` before it. Other letters are left as they are, of which XeLaTeX and LuaLaTeX print whatever their font has.
"""

import re
from collections.abc import Iterable

from stl_ray.report.blocks import Cell, Table
from stl_ray.text import plain

_COMMANDS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "*": "{*}",
    # By their numbers: in fonts and languages of their own these two have other meanings.
    '"': r"\symbol{34}",
    "`": r"\symbol{96}",
    "–": "--",  # noqa: RUF001
    "—": "---",
    "✓": r"\ensuremath{\surd}",
    "✗": r"\ensuremath{\times}",
}


def latex_table(table: Table) -> str:
    """The table as a float, with caption, label `tab:NAME` and footnote; notes are small, what stands out is bold."""
    columns = "l" + "r" * (len(table.columns) - 1)
    lines = [
        r"% Needs \usepackage{booktabs}.",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex_text(table.caption)}}}",
        rf"  \label{{tab:{table.name}}}",
        rf"  \begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        _row(map(latex_text, table.columns)),
        r"    \midrule",
        *(_row(map(_cell, row)) for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        *([rf"  \par\smallskip{{\footnotesize {latex_text(table.footnote)}}}"] if table.footnote else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex_text(text: str) -> str:
    """The text on one line, as LaTeX that prints it."""
    shown = plain(text)
    apart = re.sub(r"([-',])(?=\1)", r"\1\0", shown)  # the NUL, of which plain text has none, becomes {} below
    written = "".join({**_COMMANDS, "\0": "{}"}.get(letter, letter) for letter in apart)
    return re.sub(r"^ |(?<= ) | $", r"\\ ", written)


def _row(cells: Iterable[str]) -> str:
    return rf"    {' & '.join(cells)} \\"


def _cell(cell: Cell) -> str:
    text = latex_text(cell.text)
    value = rf"\textbf{{{text}}}" if cell.strong else text
    return rf"{value} {{\footnotesize {latex_text(cell.note)}}}" if cell.note else value

r"""Tables as LaTeX, read back by a scanner of the few commands that they may have: no TeX is here."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_ray.report.blocks import EMPTY, Cell, Table
from stl_ray.report.latex import latex_table, latex_text
from stl_ray.text import plain

ANY = st.text(st.characters(exclude_categories=()) | st.sampled_from("\\{}$&#%_~^<>|[]*\"`'-, –—✓✗"))  # noqa: RUF001
ODD = [
    r"\\",
    "{a}_b",
    "--",
    "---",
    "''",
    ",,",
    "``",
    "?`",
    "a  b ",
    "[1, 2]",
    "*",
    r"\end{tabular}",
    "50 %",
    "猫",
    "\n%\n",
    "\udcff",
]
TOKENS = re.compile(
    r"(?P<named>\\(?:textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\})"
    r"|(?P<symbol>\\symbol\{(?P<number>\d+)\})"
    r"|(?P<sign>\\ensuremath\{\\(?P<mathematics>surd|times)\})"
    r"|\\(?P<escaped>[{}$&#%_ ])"
    r"|(?P<apart>\{\})"
    r"|\{(?P<braced>[\[*])\}"
    r"|(?P<dash>---?)"
    r"|(?P<letter>[^\\{}$&#%_~^<>|\[*\"`])",
    re.DOTALL,
)
NAMED = {
    "textbackslash": "\\",
    "textasciitilde": "~",
    "textasciicircum": "^",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
}
LIGATURES = re.compile(r"''|,,|(?<!-)----|``")


def printed(text: str) -> str:
    """What TeX prints of a text: every letter of it is accounted for, and none is a command that is not known here."""
    assert not LIGATURES.search(text)
    assert not re.search(r"(?<![\\ ]) {2,}|^ | (?<!\\ )$", text), "TeX drops such blanks"
    found, end = [], 0
    for match in TOKENS.finditer(text):
        assert match.start() == end, f"not printable: {text[end:]!r}"
        end = match.end()
        if match["named"]:
            found.append(NAMED[match["named"][1:-2]])
        elif match["symbol"]:
            found.append(chr(int(match["number"])))
        elif match["sign"]:
            found.append({"surd": "✓", "times": "✗"}[match["mathematics"]])
        elif match["dash"]:
            found.append({2: "–", 3: "—"}[len(match["dash"])])  # noqa: RUF001
        else:
            found.append(match["escaped"] or match["braced"] or match["letter"] or "")
    assert end == len(text)
    return "".join(found)


@given(ANY)
def test_roundtrip_any_text_is_printed(text):
    assert printed(latex_text(text)) == plain(text)


@pytest.mark.parametrize("text", ODD)
def test_roundtrip_odd_texts_are_printed(text):
    assert printed(latex_text(text)) == plain(text)


def _check(text: str) -> None:
    cells = (
        (Cell(text), Cell(text, note=text)),
        (Cell("0.5", strong=True), Cell("1", note=text, strong=True)),
        (EMPTY, EMPTY),
    )
    written = latex_table(Table("a/b_c-0.08", text, ("Defense", text), cells, text))
    head, body = written.split("    \\toprule\n")
    body, tail = body.split("    \\bottomrule\n")
    assert head.splitlines()[1:] == [
        r"\begin{table}", r"  \centering", rf"  \caption{{{latex_text(text)}}}", r"  \label{tab:a/b_c-0.08}",
        r"  \begin{tabular}{lr}",
    ]  # fmt: skip
    shown, note = latex_text(text), rf" {{\footnotesize {latex_text(text)}}}"
    assert body.splitlines() == [
        rf"    Defense & {shown} \\",
        r"    \midrule",
        rf"    {shown} & {shown}{note if text else ''} \\",
        rf"    \textbf{{0.5}} & \textbf{{1}}{note if text else ''} \\",
        r"    -- & -- \\",
    ]
    footnote = [rf"  \par\smallskip{{\footnotesize {shown}}}"] if text else []
    assert tail.splitlines() == [r"  \end{tabular}", *footnote, r"\end{table}"]
    bare = re.sub(r"\\.", "", re.sub(r"(?m)^%.*\n", "", written))
    assert bare.count("{") == bare.count("}") and "%" not in bare and "#" not in bare and "$" not in bare
    written.encode()


@given(ANY)
def test_invariant_any_text_leaves_a_whole_table(text):
    _check(text)


@pytest.mark.parametrize("text", ODD)
def test_invariant_odd_texts_leave_a_whole_table(text):
    _check(text)

"""Any text of the user's on the pages: read back by parsers of HTML and of Markdown that were not written here."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from stl_ray.report.blocks import Cell, Figure, Listing, Section, Table, Text
from stl_ray.report.page import HTML, MARKDOWN, render
from stl_ray.text import plain

ANY = st.text(st.characters(exclude_categories=()))
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
ODD = [
    "Ba$$in",
    "$5-$10",
    "a|b",
    "a\\|b\\",
    "``` ` ```",
    "````",
    "<script>alert(1)</script>",
    "AT&amp;T &#35;",
    '" onload="x',
    "~~gone~~ **bold** _em_",
    "[a](javascript:b) ![c](d)",
    "猫 🦊 שלום",
    "two\nlines\r\n",
    "\x00\x1b[31m\x85\u2028",
    "\u202eexe.png",
    "\udcff",
    "x" * 5000,
]


class Found(HTMLParser):
    """The texts of the page's elements: of the cells by rows, and of the others by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.rows, self.texts, self.alt = [], [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.alt.append(dict(attributes)["alt"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("img", "meta"):
            self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.tags.pop() == tag

    def handle_data(self, data):
        if self.tags and {"td", "th"} & set(self.tags):
            self.rows[-1][-1] += data
        elif self.tags:
            self.texts[self.tags[-1]] = self.texts.get(self.tags[-1], "") + data


def _page(template: str, text: str) -> str:
    table = Table(
        "odd", text, (text, text), ((Cell(text), Cell(text, note="note")), (Cell("0.5", strong=True), Cell(text))), text
    )
    blocks = (
        Text(f"about {text}"),
        table,
        Figure("name", f"shows {text}", PNG),
        Listing("as it is", f"{text}\nlast line"),
    )
    page = render(template, title=text, name=text, sections=(Section("one", "One", blocks),))
    page.encode()
    return page


def _check_html(text: str) -> None:
    found = Found(_page(HTML, text))
    shown = plain(text)
    assert found.tags == []
    assert found.rows == [[shown, shown], [shown, f"{shown}note"], ["0.5", shown]]
    assert found.texts.get("h1", "") == found.texts.get("caption", "") == shown
    assert found.texts.get("title", "") == (f"{shown}: {shown}" if text else "")
    assert f"about {shown}" in found.texts["p"]
    assert found.texts["figcaption"] == f"shows {shown}"
    assert found.alt == [f"shows {shown}"]
    assert found.texts["pre"].split("\n") == ["", *map(plain, text.split("\n")), "last line", ""]


def _check_markdown(text: str) -> None:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(_page(MARKDOWN, text))
    kinds = [token.type for token in tokens]
    assert kinds.count("table_open") == kinds.count("fence") == 1
    assert kinds.count("tr_open") == 3 and kinds.count("th_open") == 2 and kinds.count("td_open") == 4
    texts = [_words(token) for token in tokens if token.type == "inline"]
    shown = _squeezed(plain(text))
    cells = [shown, shown, shown, _squeezed(f"{plain(text)} note"), "0.5", shown]
    assert [_words(tokens[n + 1]) for n, kind in enumerate(kinds) if kind in ("th_open", "td_open")] == cells
    assert _squeezed(f"about {plain(text)}") in texts
    (fence,) = (token for token in tokens if token.type == "fence")
    assert fence.content.split("\n") == [*map(plain, text.split("\n")), "last line", ""]


def _words(token) -> str:
    """The text of a line, in which every piece is text and none is markup."""
    pieces = token.children or []
    assert {piece.type for piece in pieces} <= {"text", "text_special", "image", "strong_open", "strong_close"}
    return _squeezed("".join(piece.content for piece in pieces))


def _squeezed(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("text", ODD)
def test_roundtrip_odd_texts_are_on_the_page_as_they_are(text):
    _check_html(text)


@given(ANY)
def test_roundtrip_any_text_is_on_the_page_as_it_is(text):
    _check_html(text)


@pytest.mark.parametrize("text", ODD)
def test_roundtrip_odd_texts_are_in_markdown_as_they_are(text):
    _check_markdown(text)


@given(ANY)
def test_roundtrip_any_text_is_in_markdown_as_it_is(text):
    _check_markdown(text)

from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_ray.text import columns, plain

ANY = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ba$$in", "Ba$$in"),
        ("猫 🐱 שלום a\\b", "猫 🐱 שלום a\\b"),
        ("two\nlines\r\tand", r"two\nlines\r\tand"),
        ("\x1b[31mred\x07\x9b", r"\x1b[31mred\x07\x9b"),
        ("\u202eexe.png\u2028", r"\u202eexe.png\u2028"),
        ("\udcff.png", r"\udcff.png"),
        ("", ""),
    ],
)
def test_identity_what_is_not_seen_is_shown_as_its_escape(text, shown):
    assert plain(text) == shown


@given(ANY)
def test_certificate_any_text_is_one_line_that_can_be_encoded(text):
    shown = plain(text)
    shown.encode()
    assert shown.splitlines() in ([], [shown])
    assert not {category(character) for character in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert plain(shown) == shown
    if text.isprintable():
        assert shown == text


def test_columns_stand_under_each_other():
    assert columns([("", "left"), ("ingest/train", "7"), ("x", "1000")]) == [
        "              left",
        "ingest/train     7",
        "x             1000",
    ]


def test_wide_characters_take_two_columns():
    assert columns([("", "of"), ("猫", "犬犬"), ("ab", "c")]) == ["      of", "猫  犬犬", "ab     c"]


@given(st.lists(st.tuples(ANY, ANY), min_size=1))
def test_invariant_a_row_is_a_line(rows):
    lines = columns(rows)
    assert len(lines) == len(rows)
    assert lines == list(map(plain, lines))

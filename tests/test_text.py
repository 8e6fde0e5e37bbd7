from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_ray.text import plain

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

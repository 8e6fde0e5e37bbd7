import pickle

from hypothesis import given
from hypothesis import strategies as st

from stl_ray.errors import ImageError, InputError, QuarantineReason
from stl_ray.text import plain

ANY = st.text(st.characters(exclude_categories=()))


def test_identity_a_message_is_one_sentence_of_what_it_is_about():
    error = InputError("not a name", item="a\nb\x1b[2J", expected="letters", got="\udcff")
    assert str(error) == r"a\nb\x1b[2J: not a name; expected letters; got \udcff"
    assert (error.item, error.expected, error.got) == ("a\nb\x1b[2J", "letters", "\udcff")


def test_identity_lines_of_a_message_stay_lines():
    assert str(InputError("2 keys are wrong:\n  one\r\n  two", item="x")) == "x: 2 keys are wrong:\n  one\\r\n  two"


@given(ANY, ANY, ANY)
def test_certificate_an_error_has_no_effects_and_no_lines_of_the_users(item, expected, got):
    text = str(InputError("wrong", item=item, expected=expected, got=got))
    assert text == f"{plain(item)}: wrong; expected {plain(expected)}; got {plain(got)}"
    text.encode()


@given(ANY, ANY)
def test_roundtrip_errors_keep_their_attributes_between_processes(message, item):
    error = ImageError(message, reason=QuarantineReason.TOO_SMALL, item=item, got=3)
    other = pickle.loads(pickle.dumps(error))
    assert (str(other), other.message, other.item, other.got) == (str(error), message, item, 3)
    assert other.reason is QuarantineReason.TOO_SMALL

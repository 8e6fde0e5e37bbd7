import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_ray.config import Source
from stl_ray.errors import InputError
from stl_ray.images.readers.class_order import ordered


@given(st.sets(st.integers(0, 10**6)))
def test_identity_order_of_numbers_and_of_text(numbers):
    names = [str(number) for number in numbers]
    assert ordered(names, "number", "source") == [str(number) for number in sorted(numbers)]
    assert ordered(names, "text", "source") == sorted(names)


@pytest.mark.parametrize(
    ("names", "expected"), [(["1", "n2"], "got n2"), (["01", "1"], "got 01 and 1"), (["²"], "got ²")]
)
def test_refuses_an_order_that_is_none(names, expected):
    with pytest.raises(InputError, match=expected):
        ordered(names, "number", "source")


def test_refuses_an_order_of_a_format_that_has_its_own():
    with pytest.raises(ValueError, match="order of its own"):
        Source(format="parquet", path="a", class_order="number")

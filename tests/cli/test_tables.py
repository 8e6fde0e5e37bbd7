import pytest

from stl_ray.cli.tables import duration, size


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_400, "99.4 kB"), (123_456, "123 kB"), (3.94e9, "3.9 GB"),
     (2.5e15, "2500 TB")],
)  # fmt: skip
def test_sizes_in_decimal_units(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (99, "99 s"), (180, "3 min"), (3 * 3600, "3.0 h"), (3 * 86400, "3.0 days")]
)
def test_durations_as_people_say_them(seconds, text):
    assert duration(seconds) == text

"""The files that a path means, on a disk; tests/images/readers/test_s3.py has a bucket."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from stl_ray.images.readers.matching import beside, home, matching
from stl_ray.store import Storage

SUFFIXES = (".parquet",)
NAME = st.text(st.sampled_from("*?[]!-^ab01 #%.{}~\\'"), min_size=1, max_size=12)


def files(place):
    """The full paths that are meant."""
    storage = Storage.open(str(place))
    return [f"{home(storage, SUFFIXES).root}/{path}" for path in matching(storage, SUFFIXES)]


@pytest.fixture
def tree(tmp_path):
    """A maker of files below a folder."""

    def make(*names):
        for name in names:
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name)
        return tmp_path

    return make


def below(top, place):
    return [path.removeprefix(f"{top}/") for path in files(top / place)]


@pytest.mark.parametrize(
    ("place", "meant"),
    [
        ("data[1].parquet", ["data[1].parquet"]),
        ("data[2].parquet", ["data2.parquet"]),  # nothing is called so
        ("data?.parquet", ["data1.parquet", "data2.parquet"]),
        ("[v2] data", ["[v2] data/*.parquet", "[v2] data/x.parquet", "[v2] data/y.parquet"]),
        ("[v2] data/x.parquet", ["[v2] data/x.parquet"]),
        ("[v2] data/[xy].parquet", ["[v2] data/x.parquet", "[v2] data/y.parquet"]),
        ("[v2] data/*.parquet", ["[v2] data/*.parquet"]),
        ("[v2] data/*.parque?", ["[v2] data/*.parquet", "[v2] data/x.parquet", "[v2] data/y.parquet"]),
        ("[v3] data/x.parquet", []),
        ("?/[v2] data/x.parquet", ["a/[v2] data/x.parquet"]),
        ("a?b", ["a?b/x.parquet"]),
        ("a?b/deep/x.parquet", ["a?b/deep/x.parquet"]),
        ("a?b/d*/x.parquet", ["a?b/deep/x.parquet"]),
        ("a?b/**/x.parquet", ["a?b/deep/x.parquet", "a?b/x.parquet"]),
        ("*/deep/*.parquet", ["a?b/deep/x.parquet"]),
        ("**/[v2] data/x.parquet", ["[v2] data/x.parquet", "a/[v2] data/x.parquet"]),
        ("**/y.parquet", ["[v2] data/y.parquet"]),
        ("**/deep/**", ["a?b/deep/x.parquet"]),
        ("data**.parquet", ["data1.parquet", "data2.parquet", "data[1].parquet"]),
        ("none*.parquet", []),
        ("none[1].parquet", []),
    ],
)
def test_identity_of_what_a_path_means(tree, place, meant):
    top = tree(
        "data[1].parquet", "data1.parquet", "data2.parquet", "[v2] data/x.parquet", "[v2] data/y.parquet", "a?b/x.parquet",
        "[v2] data/*.parquet", "a?b/deep/x.parquet", "axb/other.parquet", "a/[v2] data/x.parquet", "a/v data/x.parquet",
        "a?b/.hidden/x.parquet", "a?b/deep/.x.parquet",
    )  # fmt: skip
    assert below(top, place) == meant


@given(folder=NAME, name=NAME)
@settings(deadline=None)
@example(folder="*", name="*")
@example(folder="[a", name="]")
@example(folder="**", name="**")
@example(folder="[!a]", name="a")
def test_roundtrip_a_path_that_is_there_means_itself(folder, name):
    assume(folder.strip(".") and not name.startswith("."))
    with tempfile.TemporaryDirectory() as top:
        for decoy in (f"{folder}/{name}.parquet", f"{folder}/0.parquet", "a/a.parquet", f"{folder}x/{name}.parquet"):
            file = Path(top, decoy)
            file.parent.mkdir(exist_ok=True)
            file.touch()
        assert files(f"{top}/{folder}/{name}.parquet") == [f"{top}/{folder}/{name}.parquet"]
        inside = {f"{top}/{folder}/{name}.parquet", f"{top}/{folder}/0.parquet"}
        assert inside <= set(files(f"{top}/{folder}"))


def test_invariant_a_file_comes_once_under_its_own_name(tree):
    top = tree("a/1.parquet", "a/2.parquet", "out/3.parquet", "out/deep/4.parquet")
    root = top / "a"
    (root / "0-latest.parquet").symlink_to("1.parquet")
    (root / "5.parquet").symlink_to("../out/3.parquet")
    (root / "6.parquet").symlink_to("../out/3.parquet")
    (root / "b").symlink_to("../out")
    (root / "c").symlink_to("../out")
    (root / "up").symlink_to("..")
    assert below(root, "") == ["1.parquet", "2.parquet", "5.parquet"]
    left_out = beside(Storage.open(str(root)), SUFFIXES)
    assert {"0-latest.parquet", "6.parquet"} <= set(left_out.first_links)
    assert below(root, "*/*.parquet") == ["b/3.parquet"]
    assert below(root, "**/*.parquet") == ["1.parquet", "2.parquet", "5.parquet", "b/deep/4.parquet"]
    (root / "itself.parquet").symlink_to("itself.parquet")
    assert below(root, "its*.parquet") == ["itself.parquet"]  # the reader says what is wrong with it

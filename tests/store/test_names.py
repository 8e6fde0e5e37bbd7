"""Every character that a name may hold, on every kind of storage: the name comes back as it is, or is refused."""

import string
import tempfile

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from stl_ray.errors import InputError, StorageError
from stl_ray.store import Storage
from stl_ray.store.arrow import _opened
from stl_ray.uris import normalized

NASTY = [
    "exp#1", "#", "100%", "a%20b", "a%2Fb", "%", "a+b", "a b", " a ", "what?.png", "?", "a?b", "why?no.tar", "a&b=c", "a=b",
    "[v2] data", "data[1].parquet", "*", "a*b", "{x}", "~", "~a", "-", "--", "a\\b", "'", '"', "`", "$HOME", "a;b", "a,b",
    "a:b", "s3:", "a@b", "!", "|", "<>", "^", ".hidden", "...", "é", "e\u0301", "日本", "🐈", "\u00a0", "\u202e",
]  # fmt: skip

NAME = st.text(
    st.one_of(st.sampled_from("#?%&+=[]*~'\"\\ .:@;é"), st.characters(exclude_categories=["Cc", "Cs"])), min_size=1
)


def _possible(name):
    return "/" not in name and name not in {".", ".."} and not name.startswith(".tmp-") and len(name.encode()) <= 255


def _comes_back(top, name):
    """Whether a folder and a file of this name below a storage are what was written, however they are asked for."""
    top.write(f"{name}/{name}", name.encode())
    below = top.below(name)
    assert below.read(name) == top.read(f"{name}/{name}") == name.encode()
    assert (top.names(), below.names(), [file.path for file in below.walk()]) == ([name], [name], [name])
    assert top.entries()[0] == [name]
    assert [(file.path, file.size) for file in below.entries()[1]] == [(name, len(name.encode()))]
    assert (below.exists(name), below.exists(f"{name}x"), below.size(name)) == (True, False, len(name.encode()))
    assert Storage.open(below.root) == below
    folder, file = Storage.of_file(below.at(name))
    assert (folder, file) == (below, name)
    assert folder.reader(file).read() == name.encode()
    below.delete(name)
    assert not below.exists(name)


@given(name=NAME)
@settings(deadline=None)
def test_roundtrip_a_name_on_a_disk(name):
    assume(_possible(name))
    with tempfile.TemporaryDirectory() as folder:
        _comes_back(Storage.open(folder), name)


@pytest.mark.parametrize("name", [*NASTY, "a" * 200])
def test_roundtrip_the_worst_names_on_a_disk(tmp_path, name):
    _comes_back(Storage.open(str(tmp_path)), name)


def test_refuses_a_name_that_is_too_long(tmp_path):
    with pytest.raises(StorageError, match="File name too long"):
        Storage.open(str(tmp_path)).exists("a" * 300)


@given(key=NAME)
@example(key="a?b=c")
@example(key="exp#1/a%20b")
def test_roundtrip_a_key_through_pyarrow(key):
    try:
        place = normalized(f"gs://bucket/{key}")
    except InputError:
        return
    assume("?" not in place or place.endswith(key))
    assert _opened(place)[1] == f"bucket/{key.removesuffix('/')}".removesuffix("/")


def test_refuses_a_folder_whose_name_reads_like_options():
    top = Storage.open("s3://bucket/a")
    for name in ("x?region=y", "x?anonymous", "x?y"):
        with pytest.raises(InputError, match=r"a folder whose name reads like options of a URI; expected no \?name"):
            top.below(name)
    assert Storage.open("s3://bucket/a?region=r").below("x?y=z").root == "s3://bucket/a/x?y=z?region=r"


# A name that reads like options can be named with options behind it.
@pytest.mark.s3
@pytest.mark.parametrize("name", [*NASTY, "a?b=c", "a?region=x"])
def test_roundtrip_the_worst_names_in_a_bucket(s3, name):
    _comes_back(Storage.open(f"{s3}/{string.punctuation.replace('/', '')}?region=us-east-1"), name)

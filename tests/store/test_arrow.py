"""ArrowFiles over what pyarrow has that needs no server."""

import pytest

from stl_ray.errors import InputError, StorageError
from stl_ray.store import arrow
from stl_ray.store.arrow import ArrowFiles


@pytest.fixture
def files(monkeypatch) -> ArrowFiles:
    from pyarrow import fs

    whole = fs.FileSystem.from_uri("mock:///")[0]
    monkeypatch.setattr(arrow, "_opened", lambda root: (whole, "bucket/x"))
    return ArrowFiles("mock:///bucket/x")


def test_roundtrip_bytes_names_and_ranges(files, tmp_path):
    files.write("a/b", b"0123456789")
    (tmp_path / "source").write_bytes(b"1")
    files.write_file("a/c/d", tmp_path / "source")
    assert (files.read("a/b"), files.read("a/b", 2, 3), files.size("a/b")) == (b"0123456789", b"234", 10)
    assert files.names("a") == ["b", "c"]
    assert files.names("nowhere") == []
    assert [file.path for file in files.walk("")] == ["a/b", "a/c/d"]
    assert files.entries("a") == (["c"], [file for file in files.walk("") if file.path == "a/b"])
    assert files.entries("nowhere") == ([], [])
    assert files.create("new", b"1")
    assert not files.create("new", b"2")
    assert files.read("new") == b"1"
    files.delete("new")
    files.delete("new")
    assert not files.exists("new")


def test_refuses_a_missing_file_by_its_uri(files):
    with pytest.raises(StorageError, match="mock:///bucket/x/absent: there is no such file"):
        files.read("absent")
    with pytest.raises(StorageError, match="there is no such file"):
        files.size("absent")


def test_refuses_a_scheme_that_nobody_knows():
    with pytest.raises(InputError, match=r"ftp://host/x: this kind of storage is not supported .*s3://bucket/folder"):
        ArrowFiles("ftp://host/x")

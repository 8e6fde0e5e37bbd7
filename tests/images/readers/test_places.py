"""Two sources that read the same are told by real names."""

import pytest

from stl_ray.config import Source
from stl_ray.images.readers import open_reader
from stl_ray.images.readers.places import Places
from stl_ray.store import Storage


def files(*names):
    return Places.of_files(Storage.open("/d"), names)


def folder(place):
    return Places.of_folder(Storage.open(place), ())


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (files("a", "b", "x/c"), files("b", "x/c", "d"), ["/d/b", "/d/x/c"]),
        (files("a"), files("b"), []),
        (folder("/d/a"), folder("/d/a"), ["/d/a"]),
        (folder("/d/a/"), folder("/d/b/../a"), ["/d/a"]),
        (folder("/d"), folder("/d/a/b"), ["/d/a/b"]),
        (folder("/"), folder("/d"), ["/d"]),
        (folder("/d/a"), folder("/d/ab"), []),
        (folder("/d"), files("a.tar"), []),  # images beside a tar are other images
        (folder("s3://bucket/a"), folder("s3://bucket/a/b"), ["s3://bucket/a/b"]),
        (folder("s3://bucket/a/"), folder("s3://bucket/a"), ["s3://bucket/a"]),
        (folder("s3://bucket/a"), folder("s3://bucket/ab"), []),
        (folder("s3://bucket"), folder("s3://bucket/a"), ["s3://bucket/a"]),
        (folder("s3://one/a"), folder("s3://other/a"), []),
        (folder("s3://b/a?region=x"), folder("s3://b/a/c?region=x"), ["s3://b/a/c?region=x"]),
        (folder("file:///d/a"), folder("/d/a/b"), ["/d/a/b"]),
        (Places(), folder("/d"), []),
    ],
)
def test_identity_what_both_read(one, other, shared):
    assert one.shared(other) == other.shared(one) == shared


def places(form, path, split="train"):
    return open_reader(Source(format=form, path=str(path)), split=split).places


def test_identity_links_are_resolved(tmp_path):
    real = tmp_path / "real"
    for name in ("a/1.png", "b/2.png", "x.tar", "y.tar"):
        (real / name).parent.mkdir(parents=True, exist_ok=True)
        (real / name).write_bytes(b"")
    (tmp_path / "link").symlink_to(real)
    assert places("folder", real).shared(places("folder", tmp_path / "link")) == [str(real)]
    picked = tmp_path / "picked"
    (picked / "c").mkdir(parents=True)
    (picked / "a").symlink_to(tmp_path / "link" / "a")
    assert places("folder", real).shared(places("folder", picked)) == [str(real / "a")]
    (picked / "z.tar").symlink_to(real / "y.tar")
    assert places("tar", tmp_path / "link" / "*.tar").shared(places("tar", picked / "z.tar")) == [str(real / "y.tar")]
    assert places("tar", real).files == {str(real / "x.tar"), str(real / "y.tar")}


def test_identity_sources_of_both_splits_share_nothing(tmp_path):
    assert places("cifar10", tmp_path) == Places()
    assert open_reader(Source(format="photographs"), split="test").places == Places()

import os
import resource
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stl_ray.config import Source
from stl_ray.errors import InputError, QuarantineReason, StorageError
from stl_ray.images import decode, encode_png
from stl_ray.images.readers import open_reader
from stl_ray.images.readers.folder import FolderReader
from stl_ray.store import FileInfo, Storage

IMAGE = encode_png(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8))


@pytest.fixture
def tree(tmp_path):
    """Three classes of 3, 1 and 2 images, and files that are none."""
    names = ["b/2.png", "b/10.PNG", "b/deep/er/x.jpeg", "a c/é ü.png", "z/1.tif", "z/0.webp"]
    ignored = ["b/notes.txt", "b/.hidden.png", ".cache/0.png", "b/.git/1.png", "top.png", "z/2.png.part"]
    for name in names + ignored:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(IMAGE)
    return tmp_path


def reader(path, limit=None):
    return open_reader(Source(format="folder", path=str(path), limit=limit), split="train")


def read(folder, shard_size=1000):
    return [image for shard in folder.plan(shard_size) for image in folder.read(shard.source)]


def test_identity_classes_ids_and_turns(tree):
    folder = reader(tree)
    assert folder.class_names == ["a c", "b", "z"]
    images = read(folder)
    assert [(image.id, image.label) for image in images] == [
        ("a c/é ü.png", 0),
        ("b/10.PNG", 1),
        ("z/0.webp", 2),
        ("b/2.png", 1),
        ("z/1.tif", 2),
        ("b/deep/er/x.jpeg", 1),
    ]
    assert all(image.data == IMAGE and image.path == image.id and image.problem is None for image in images)
    assert decode(images[0].data, max_pixels=1000).shape == (9, 12, 3)


def test_identity_classes_named_by_numbers_in_the_order_that_is_said(tmp_path):
    for name in ("0", "1", "2", "10"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of {name}.png").write_bytes(IMAGE)
    for order, names in (("text", ["0", "1", "10", "2"]), ("number", ["0", "1", "2", "10"])):
        folder = open_reader(Source(format="folder", path=str(tmp_path), class_order=order), split="train")
        assert folder.class_names == names
        assert {image.id: image.label for image in read(folder)} == {
            f"{name}/of {name}.png": label for label, name in enumerate(names)
        }


def test_invariant_shards_and_limit(tree):
    ids = [image.id for image in read(reader(tree))]
    assert [image.id for image in read(reader(tree), shard_size=4)] == ids
    assert [shard.rows for shard in reader(tree).plan(4)] == [4, 2]
    assert [image.id for image in read(reader(tree, limit=3))] == ids[:3]
    assert [image.id for image in read(reader(f"file://{tree}"))] == ids


class Names(Storage):
    """Forty classes of a thousand images, of which there are only the names."""

    def entries(self, folder=""):
        return [f"class-{label:02d}" for label in range(40)], []

    def walk(self, folder=""):
        for number in range(1000):
            yield FileInfo(f"{folder}/{folder}-{number:04d}.JPEG", 110_000, f"17000000000000{number:05d}")


def test_invariant_no_listing_is_kept_in_memory():
    tracemalloc.start()
    try:
        before = pa.total_allocated_bytes()
        plan = FolderReader(Names("s3://bucket/images")).plan(1000)
        first = next(plan)
        kept = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before
    finally:
        tracemalloc.stop()
    assert kept < 20 * 40_000
    assert first.source["paths"][39:42] == [
        f"class-{c}/class-{c}-{n}.JPEG" for c, n in (("39", "0000"), ("00", "0001"), ("01", "0001"))
    ]
    assert sum(shard.rows for shard in plan) == 39_000


def test_refuses_a_disk_without_room_for_the_listing():
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limit[1]))
    try:
        with pytest.raises(StorageError, match=r"s3://bucket/images: SQLite cannot keep .*; SQLITE_TMPDIR names"):
            next(FolderReader(Names("s3://bucket/images")).plan(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_invariant_digest_follows_the_files(tree):
    before = [shard.digest for shard in reader(tree).plan(4)]
    assert before == [shard.digest for shard in reader(tree).plan(4)]
    (tree / "b" / "deep" / "er" / "x.jpeg").write_bytes(IMAGE + b"\0")
    after = [shard.digest for shard in reader(tree).plan(4)]
    assert after[0] == before[0] and after[1] != before[1]


def test_refuses_one_file_and_keeps_the_others(tree):
    (tree / "z" / "3.png").symlink_to(tree / "nowhere.png")
    folder = reader(tree)
    plan = list(folder.plan(1000))
    (tree / "b" / "2.png").unlink()
    images = [image for shard in plan for image in folder.read(shard.source)]
    assert len(images) == plan[0].rows == 7
    assert {image.id: image.problem for image in images if image.problem} == {
        "b/2.png": QuarantineReason.MISSING_IMAGE,
        "z/3.png": QuarantineReason.MISSING_IMAGE,
    }
    assert all((image.data is None) == (image.problem is not None) for image in images)


@pytest.mark.parametrize("limit", [None, 6])
def test_invariant_links_to_folders_give_no_image_twice_and_none_another_class(tree, tmp_path_factory, limit):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "5.png").write_bytes(IMAGE)
    before = [(image.id, image.label) for image in read(reader(tree, limit))]
    links = {
        "b/up": "..",
        "b/deep/itself.png": ".",
        "b/other": "../z",
        "z/to": "../b/deep",
        "b/deep/top": "/",
        "bb": "b",
    }
    for link, target in links.items():
        (tree / link).symlink_to(target)
    assert reader(tree).class_names == ["a c", "b", "z"]
    assert [(image.id, image.label) for image in read(reader(tree, limit))] == before
    (elsewhere / "back").symlink_to(tree)
    (tree / "a c" / "more").symlink_to(elsewhere)
    assert {image.id for image in read(reader(tree))} == {name for name, _ in before} | {"a c/more/5.png"}


FOLDERS = ["root/cat", "root/cat/deep", "root/dog", "root/elk", "out", "out/x", "out/x/deep", "out/y"]
LINKS = st.lists(
    st.tuples(st.sampled_from(["root", *FOLDERS]), st.sampled_from("az"), st.sampled_from(["", "root", *FOLDERS])),
    max_size=5,
)


@given(links=LINKS, limit=st.sampled_from([None, 1, 3, 8]))
@settings(deadline=None, max_examples=40)
@example(links=[("root/dog", "a", "root")], limit=9)
def test_invariant_no_links_give_an_image_another_class_or_twice_in_one(links, limit):
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder).resolve()
        for name in FOLDERS:
            (top / name).mkdir(parents=True, exist_ok=True)
            (top / name / "1.png").write_bytes(IMAGE)
        for place, name, target in {link[:2]: link for link in links}.values():
            (top / place / name).symlink_to(top / target)
        images = read(reader(top / "root", limit))
        real = [(top / "root" / image.id).resolve() for image in images]
        inside = {
            str(path.relative_to(top / "root")): image
            for path, image in zip(real, images, strict=True)
            if "root/" in str(path)
        }
        assert {path: image.id for path, image in inside.items()} == {path: path for path in inside}
        assert len({(image.label, path) for image, path in zip(images, real, strict=True)}) == len(images)
        if limit is None:
            assert inside.keys() == {"cat/1.png", "cat/deep/1.png", "dog/1.png", "elk/1.png"}


def test_identity_an_image_that_two_classes_link_to_is_one_of_each_as_copies_would_be(tree):
    (tree / "b" / "shared.png").symlink_to(tree / "z" / "0.webp")
    (tree / "z" / "hard.png").hardlink_to(tree / "b" / "2.png")
    labels = {image.id: image.label for image in read(reader(tree))}
    assert (labels["z/0.webp"], labels["b/shared.png"], labels["b/2.png"], labels["z/hard.png"]) == (2, 1, 1, 2)


def test_refuses_missing_and_empty_folders(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        reader(tmp_path / "nowhere").class_names  # noqa: B018 - asking is what raises
    with pytest.raises(InputError, match="one sub-folder per class"):
        list(reader(tmp_path).plan(10))
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "readme.txt").write_text("no image")
    with pytest.raises(InputError, match="no images"):
        list(reader(tmp_path).plan(10))


def test_refuses_a_file_name_that_is_not_text(tmp_path):
    (tmp_path / "class").mkdir()
    with open(os.fsencode(tmp_path / "class") + b"/\xff.png", "wb"):  # noqa: PTH123 - a name that pathlib cannot type
        pass
    with pytest.raises(InputError, match="UTF-8"):
        list(reader(tmp_path).plan(10))

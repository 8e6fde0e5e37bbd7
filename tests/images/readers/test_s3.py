"""Every reader on a real S3 server: the same plan and the same images as from a disk."""

import io
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stl_ray.config import Source
from stl_ray.errors import InputError, QuarantineReason
from stl_ray.images import encode_png, image_schema
from stl_ray.images.readers import open_reader
from stl_ray.store import Storage
from stl_ray.store.s3 import S3Files

pytestmark = pytest.mark.s3


def png(value):
    return encode_png(np.full((8, 8, 3), value, np.uint8))


def _tar(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _parquet(start, stop):
    rows = [{"id": f"r{n}", "image": {"bytes": png(n), "path": None}, "label": n % 3} for n in range(start, stop)]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=image_schema("image", ["x", "y", "z"])), sink, row_group_size=4)
    return sink.getvalue()


FILES = {
    **{f"folder/{name}/deep/é {n}.png": png(n) for n, name in enumerate(["b", "a", "b c", "a"] * 5)},
    "folder/notes.txt": b"no class",
    "folder/.hidden/1.png": png(0),
    "folder/a/notes.txt": b"no image",
    "classes/n01.tar": _tar([(f"{n}.JPEG", png(n)) for n in range(30)]),
    "classes/n02.tar": _tar([(f"{n}.JPEG", bytes(100_000)) for n in range(5)]),
    "wds/part-0.tar": _tar([("1.png", png(1)), ("1.cls", b"0"), ("2.png", png(2)), ("2.cls", b"1")]),
    "wds/part-1.tar": _tar([("3.png", png(3)), ("3.cls", b"1")]),
    "wds/other-1.tar": _tar([("4.png", png(3)), ("4.cls", b"1")]),
    "wds/classes.txt": b"cat\ndog\n",
    "rows/a.parquet": _parquet(0, 10),
    "rows/b.parquet": _parquet(8, 15),
    "[v2] #1/a[1]?.parquet": _parquet(0, 3),
    "[v2] #1/a1b.parquet": _parquet(3, 5),
    "cifar/test_batch": pickle.dumps({b"labels": [0, 1], b"data": np.zeros((2, 3072), np.uint8)}, protocol=2),
}

SOURCES = [
    ("folder", "folder"),
    ("tar", "classes"),
    ("tar", "classes/n02.tar"),
    ("tar", "wds/part-*.tar"),
    ("parquet", "rows"),
    ("parquet", "rows/b.parquet"),
    ("parquet", "ro*/[ab].parquet"),
    ("parquet", "[v2] #1"),
    ("parquet", "[v2] #1/a[1]?.parquet"),
    ("parquet", "[v2] #1/?1?.parquet"),
    ("parquet", "**/[ab].parquet"),
    ("cifar10", "cifar"),
]


def _filled(root):
    storage = Storage.open(root)
    for name, data in FILES.items():
        storage.write(name, data)
    return storage


def _reader(root, kind, path, limit=None):
    return open_reader(Source(format=kind, path=f"{root}/{path}", limit=limit), split="test")


@pytest.mark.parametrize(("kind", "path"), SOURCES)
def test_agrees_with_the_disk(s3, tmp_path, kind, path):
    _filled(s3), _filled(str(tmp_path))
    there, here = _reader(s3, kind, path), _reader(tmp_path, kind, path)
    assert there.class_names == here.class_names
    plans = [list(reader.plan(4)) for reader in (there, here)]
    assert [shard.source for shard in plans[0]] == [shard.source for shard in plans[1]]
    if kind != "folder":  # its digest has the time of change, or the ETag
        assert [shard.digest for shard in plans[0]] == [shard.digest for shard in plans[1]]
    for remote, local in zip(*plans, strict=True):
        rows = [list(there.read(remote.source)), list(here.read(local.source))]
        assert [(r.id, r.label, r.path, r.problem) for r in rows[0]] == [
            (r.id, r.label, r.path, r.problem) for r in rows[1]
        ]
        assert all(np.array_equal(a.data, b.data) for a, b in zip(*rows, strict=True))


def test_invariant_headers_of_a_tar_come_many_in_one_request(s3, monkeypatch):
    _filled(s3)
    read, requests = S3Files.read, []
    monkeypatch.setattr(S3Files, "read", lambda *arguments: requests.append(arguments) or read(*arguments))
    assert sum(shard.rows for shard in _reader(s3, "tar", "classes").plan(100)) == 35
    assert len(requests) == 2  # one for each tar


def test_refuses_what_is_gone(s3):
    storage = _filled(s3)
    folder, tars = _reader(s3, "folder", "folder"), _reader(s3, "tar", "classes/n01.tar")
    plans = [next(reader.plan(100)) for reader in (folder, tars)]
    storage.delete("folder/a/deep/é 1.png")
    storage.delete("classes/n01.tar")
    gone = [image for image in folder.read(plans[0].source) if image.problem is not None]
    assert [(image.id, image.problem) for image in gone] == [("a/deep/é 1.png", QuarantineReason.MISSING_IMAGE)]
    with pytest.raises(InputError, match=r"n01\.tar: there is no such file"):
        list(tars.read(plans[1].source))


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("folder", "nowhere", "there is no such folder"),
        ("folder", "wds", "one sub-folder per class"),
        ("tar", "rows", "no tars"),
        ("tar", "nowhere.tar", "no tars"),
        ("parquet", "rows/c*.parquet", "no Parquet files"),
        ("cifar10", "wds", "a batch of CIFAR-10 is missing"),
    ],
)
def test_refuses_missing_sources(s3, kind, path, message):
    _filled(s3)
    with pytest.raises(InputError, match=message):
        list(_reader(s3, kind, path).plan(10))


def test_refuses_an_empty_bucket(s3):
    with pytest.raises(InputError, match="no such folder"):
        list(open_reader(Source(format="folder", path=s3), split="test").plan(10))

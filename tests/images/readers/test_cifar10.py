import pickle
import struct

import numpy as np
import pytest

from stl_ray.config import Source
from stl_ray.errors import InputError, QuarantineReason
from stl_ray.images.readers import open_reader
from stl_ray.images.readers.cifar10 import CLASS_NAMES

TRAIN = [f"data_batch_{number}" for number in range(1, 6)]


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: byte strings as its `str`, at protocol 2."""

    def __init__(self, file):
        super().__init__(file, protocol=2)

    def save_bytes(self, value):
        self.write(b"T" + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_bytes}  # noqa: RUF012 - as in the base class


def batch(name, rows=4):
    """Pixels (rows, 32, 32, 3) and labels that differ from batch to batch."""
    generator = np.random.default_rng(len(name) + sum(name.encode()))
    return generator.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8), generator.integers(0, 10, rows).tolist()


def planes(pixels):
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1))


def write_python2(file, pixels, labels):
    content = {b"batch_label": b"testing batch", b"labels": labels, b"data": planes(pixels), b"filenames": [b"x.png"]}
    with file.open("wb") as stream:
        Python2Pickler(stream).dump(content)
    # NumPy's module of that time.
    file.write_bytes(file.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def write_python3(file, pixels, labels):
    content = {b"labels": labels, b"data": planes(pixels)}
    file.write_bytes(pickle.dumps(content, protocol=2))


def write_binary(file, pixels, labels):
    records = np.hstack([np.array(labels, np.uint8)[:, None], planes(pixels)])
    file.with_name(f"{file.name}.bin").write_bytes(records.tobytes())


@pytest.fixture(params=[write_python2, write_python3, write_binary])
def folder(request, tmp_path):
    for name in [*TRAIN, "test_batch"]:
        request.param(tmp_path / name, *batch(name))
    return tmp_path


def reader(path, split="train", limit=None):
    return open_reader(Source(format="cifar10", path=str(path), limit=limit), split=split)


def read(cifar, shard_size=3):
    return [image for shard in cifar.plan(shard_size) for image in cifar.read(shard.source)]


@pytest.mark.parametrize(("split", "names"), [("train", TRAIN), ("test", ["test_batch"])])
def test_roundtrip_both_layouts(folder, split, names):
    cifar = reader(folder, split)
    assert cifar.class_names == list(CLASS_NAMES) and CLASS_NAMES[3] == "cat"
    images = read(cifar)
    assert [image.id for image in images] == [f"{name}/{row:05d}" for name in names for row in range(4)]
    assert np.array_equal(
        np.stack([image.data for image in images]), np.concatenate([batch(name)[0] for name in names])
    )
    assert [image.label for image in images] == [label for name in names for label in batch(name)[1]]
    assert all(image.problem is None for image in images)


def test_invariant_shards_and_limit(folder):
    assert [shard.rows for shard in reader(folder).plan(3)] == [3, 1] * 5
    assert [shard.rows for shard in reader(folder, limit=9).plan(3)] == [3, 1, 3, 1, 1]
    assert [image.id for image in read(reader(folder, limit=9))] == [image.id for image in read(reader(folder))[:9]]
    digests = [shard.digest for shard in reader(folder).plan(3)]
    assert digests == [shard.digest for shard in reader(folder).plan(3)] and len(set(digests)) == 10


@pytest.mark.parametrize("write", [write_python2, write_binary])
def test_refuses_a_label_out_of_range_and_keeps_the_others(tmp_path, write):
    pixels, _ = batch("test_batch")
    write(tmp_path / "test_batch", pixels, [0, 10, 9, 255])
    images = read(reader(tmp_path, "test"))
    wrong = QuarantineReason.LABEL_OUT_OF_RANGE
    assert [image.problem for image in images] == [None, wrong, None, wrong]
    assert [image.label for image in images] == [0, 10, 9, 255]


def test_refuses_a_missing_batch(folder):
    for file in folder.glob("data_batch_4*"):
        file.unlink()
    with pytest.raises(InputError, match="data_batch_4"):
        list(reader(folder).plan(10))
    for path in (folder / "nowhere", next(folder.glob("test_batch*"))):
        with pytest.raises(InputError, match="data_batch_1"):
            list(reader(path).plan(10))
    assert len(read(reader(folder, "test"))) == 4


def test_refuses_a_truncated_batch(folder):
    file = next(folder.glob("test_batch*"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="test_batch"):
        list(reader(folder, "test").plan(10))


def test_refuses_a_batch_that_became_shorter(tmp_path):
    pixels, labels = batch("test_batch")
    write_binary(tmp_path / "test_batch", pixels, labels)
    cifar = reader(tmp_path, "test")
    plan = list(cifar.plan(10))
    write_binary(tmp_path / "test_batch", pixels[:2], labels[:2])
    with pytest.raises(InputError, match="shorter"):
        list(cifar.read(plan[0].source))


class Shell:
    """What a malicious pickle looks like."""

    def __reduce__(self):
        return __import__("os").system, ("touch pwned",)


def test_refuses_to_run_a_pickle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"labels": [0], b"data": Shell()}, protocol=2))
    with pytest.raises(InputError, match=r"system has no place"):
        list(reader(tmp_path, "test").plan(10))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({b"labels": [0], b"data": np.zeros((1, 3072), np.float32)}, protocol=2),
        pickle.dumps({b"labels": [0, 1], b"data": np.zeros((1, 3072), np.uint8)}, protocol=2),
        pickle.dumps([1, 2], protocol=2),
        pickle.dumps({b"data": 0}, protocol=2),
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x06\x00\x00\x00base64tR.",
        b"not a pickle",
        b"",
    ],
)
def test_refuses_pickles_of_anything_else(tmp_path, content):
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(InputError, match="test_batch"):
        list(reader(tmp_path, "test").plan(10))

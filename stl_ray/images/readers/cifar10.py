"""CIFAR-10 as its authors publish it, in the python layout (`data_batch_1`) or the binary one (`data_batch_1.bin`).

Source: https://www.cs.toronto.edu/~kriz/cifar.html. A binary record is one label byte and 3072 pixel bytes (planes R,
G, B of 32 x 32, row by row); a python batch is a pickled dict whose `data` has such rows and whose `labels` is a list.
A pickle can run any code, so it is read by an unpickler that can rebuild NumPy arrays and nothing else.
"""

import codecs
import hashlib
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_ray.errors import InputError
from stl_ray.images.readers.base import RawImage, SourceShard, Split, label_problem, ranges, shard_digest
from stl_ray.images.readers.left_out import LeftOut
from stl_ray.images.readers.places import Places
from stl_ray.store import Storage

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_BATCHES: dict[Split, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test": ("test_batch",),
}
_PIXELS = 3 * 32 * 32

Batch = tuple[NDArray[np.uint8], list[int]]


@dataclass(frozen=True)
class Cifar10Reader:
    """Pixels of one split, in the published order; ids are `<batch>/<number in it>`.

    Args:
        storage: the folder that holds the batches of both splits.
        split: `train` (five batches) or `test` (one).
        limit: images to take, all when None.
    """

    storage: Storage
    split: Split
    limit: int | None = None

    @property
    def class_names(self) -> list[str]:
        """The ten classes."""
        return list(CLASS_NAMES)

    @property
    def left_out(self) -> LeftOut:
        """Nothing: the batches are files of known names."""
        return LeftOut()

    @property
    def places(self) -> Places:
        """None: each split has batches of its own."""
        return Places()

    def plan(self, shard_size: int) -> Iterator[SourceShard]:
        """Ranges of a batch's images. The digest covers the bytes of the batch.

        Raises:
            InputError: a batch is missing, truncated, or not what its layout says.
        """
        left = self.limit
        for batch in _BATCHES[self.split]:
            file, data = self._bytes(batch)
            total = len(self._parse(file, data)[1])
            content = hashlib.sha256(data).hexdigest()
            taken = total if left is None else min(total, left)
            for start, stop in ranges(taken, shard_size):
                source = {"batch": batch, "start": start, "stop": stop}
                yield SourceShard(source, stop - start, shard_digest(content, source))
            left = None if left is None else left - taken

    def read(self, source: dict[str, Any]) -> Iterator[RawImage]:
        """Yield the images of a range of a batch.

        Raises:
            InputError: the batch can no longer be read, or has become shorter.
        """
        batch, start, stop = source["batch"], source["start"], source["stop"]
        file, data = self._bytes(batch)
        pixels, labels = self._parse(file, data)
        if len(labels) < stop:
            raise InputError("the batch has become shorter", item=self.storage.at(file), expected=stop, got=len(labels))
        for row in range(start, stop):
            image = np.ascontiguousarray(pixels[row].reshape(3, 32, 32).transpose(1, 2, 0))
            yield RawImage(f"{batch}/{row:05d}", image, labels[row], None, label_problem(labels[row], len(CLASS_NAMES)))

    def _bytes(self, batch: str) -> tuple[str, bytes]:
        """The name of a batch's file, in either layout, and its bytes."""
        names = [f"{batch}.bin", batch]
        file = next((name for name in names if self.storage.exists(name)), None)
        if file is None:
            raise InputError("a batch of CIFAR-10 is missing", item=self.storage.at(batch), expected=" or ".join(names))
        return file, self.storage.read(file)

    def _parse(self, file: str, data: bytes) -> Batch:
        parse = _parse_binary if file.endswith(".bin") else _parse_python
        return parse(self.storage.at(file), data)


def _parse_binary(file: str, data: bytes) -> Batch:
    if len(data) % (1 + _PIXELS):
        expected = f"a multiple of {1 + _PIXELS} bytes"
        raise InputError("the batch is truncated", item=file, expected=expected, got=len(data))
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + _PIXELS)
    return records[:, 1:], [int(label) for label in records[:, 0]]


def _parse_python(file: str, data: bytes) -> Batch:
    try:
        content = _ArrayUnpickler(BytesIO(data), encoding="bytes").load()
        pixels, labels = np.asarray(content[b"data"]), [int(label) for label in content[b"labels"]]
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"not a readable batch of CIFAR-10 ({error})", item=file) from error
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), _PIXELS):
        expected = f"({len(labels)}, {_PIXELS}) uint8"
        raise InputError("not CIFAR-10 pixels", item=file, expected=expected, got=f"{pixels.shape} {pixels.dtype}")
    return pixels, labels


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds NumPy arrays from pickles of Python 2 and 3, and refuses every other global name."""

    def find_class(self, module: str, name: str) -> Any:
        """A function or type that a pickled array needs, by its module's old or new name."""
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
            ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _encode_latin1,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a CIFAR-10 batch")
        return allowed[module, name]


_RECONSTRUCT = np.empty(0, np.uint8).__reduce__()[0]


def _encode_latin1(text: str, encoding: str) -> bytes:
    """The codec by which protocol 2 pickles of Python 3 write bytes; any other would be code to run."""
    if encoding not in {"latin1", b"latin1"}:
        raise pickle.UnpicklingError(f"the codec {encoding!r} has no place in a CIFAR-10 batch")
    return codecs.latin_1_encode(text)[0]

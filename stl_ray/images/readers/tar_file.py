"""One plain tar of images: the offset of each, and their bytes by ranges. Nothing is ever unpacked.

Format: POSIX.1-2008 pax and GNU tar, as Python's tarfile reads their headers. A compressed tar has no random access. A
label is what WebDataset puts beside an image: `key.cls`, an integer in ASCII, or `key.json` with an integer `label`;
members of one key follow each other (https://github.com/webdataset/webdataset).
"""

import hashlib
import json
import posixpath
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any, BinaryIO

import pyarrow as pa

from stl_ray.errors import InputError, StorageError
from stl_ray.images.readers.left_out import LeftOut
from stl_ray.images.readers.matching import require
from stl_ray.images.readers.names import is_image, require_text
from stl_ray.store import Storage

NOT_A_LABEL = -2
"""Stands for a label that is no integer; out of range of any classes."""

NO_BYTES = -1
"""The size of a link, a device or a sparse file: it has an image's name, but no bytes of its own in the tar."""

BLOCK = 512
"""Bytes: the unit of a tar, and its header in front of every member."""

_TAIL = 64 * 1024  # after the last member: at least one block of zeros, and nothing else
# On a disk only headers are read. Elsewhere a request costs more than the bytes that it brings: photographs are read with
# their headers, which takes a fraction of the time of a request for each.
_AHEAD, _AHEAD_ELSEWHERE = 4096, 4 * 2**20
_ROWS = 4096  # of an index as Python objects at once
_LARGEST_LABEL_FILE = 64 * 1024

_SCHEMA = pa.schema([("path", pa.string()), ("start", pa.int64()), ("size", pa.int64()), ("label", pa.int64())])

Row = tuple[str, int, int, int | None]


@dataclass
class TarIndex:
    """The index of a tar, from its headers; those of all tars are the listing of a dataset, so it is kept compressed.

    Attributes:
        images: number of images.
        labelled: whether there are labels beside images.
        tars: whether there are tars in it.
        left_out: the members that are neither images nor labels.
        digest: sha256 over the size of the tar and every member's name, offset, size and time of change.
    """

    images: int = 0
    labelled: bool = False
    tars: bool = False
    left_out: LeftOut = field(default_factory=LeftOut)
    digest: str = ""
    _packed: pa.Buffer | None = None

    @property
    def rows(self) -> pa.Table:
        """Every image's path in the tar, its first byte there, its size (or NO_BYTES), and the label beside it.

        The label is null where there is none; the order is that of the tar.
        """
        with pa.ipc.open_stream(self._packed) as stream:
            return stream.read_all()

    @classmethod
    def of(cls, storage: Storage, path: str) -> "TarIndex":
        """Read the headers.

        Raises:
            InputError: no such file, compressed, truncated, damaged, or with a name that leads out of the tar.
        """
        index, sink = cls(), pa.BufferOutputStream()
        with _explained(storage, path):
            size = storage.size(path)
            sha = hashlib.sha256(str(size).encode())
            ahead = _AHEAD if storage.folder is not None else _AHEAD_ELSEWHERE
            with storage.reader(path, ahead) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
                rows = index._rows(_members(tar, stream, size, sha), stream, storage.at(path))
                with pa.ipc.new_stream(sink, _SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as packed:
                    while some := list(islice(rows, _ROWS)):
                        columns = list(zip(*some, strict=True))
                        require_text(columns[0], storage.at(path))
                        arrays = [pa.array(column, kind.type) for column, kind in zip(columns, _SCHEMA, strict=True)]
                        packed.write_batch(pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA))
                        index.images += len(some)
        index.digest, index._packed = sha.hexdigest(), sink.getvalue()
        return index

    def _rows(self, members: Iterator[tarfile.TarInfo], stream: BinaryIO, item: str) -> Iterator[Row]:
        """The images, sample by sample."""
        named = ((_path(member, item), member) for member in members if not member.isdir())
        for _, sample in groupby(named, key=lambda pair: key_of(pair[0])):
            images, labels = [], {}
            for path, member in sample:
                kind = posixpath.basename(path).partition(".")[2]
                plain = member.isreg() and not member.issparse()
                self.tars |= path.endswith(".tar")
                if is_image(path):
                    images.append((path, member.offset_data, member.size if plain else NO_BYTES))
                elif kind in _LABELS and plain:
                    stream.seek(member.offset_data)
                    labels[kind] = _LABELS[kind](stream.read(min(member.size, _LARGEST_LABEL_FILE)))
                else:
                    self.left_out.add_names([path])
            label = labels.get("cls", labels.get("json"))
            self.labelled |= bool(images) and ("cls" in labels or label not in (None, NOT_A_LABEL))
            yield from ((*image, label) for image in images)


def key_of(path: str) -> str:
    """The key of a WebDataset sample: the path of its members up to the first dot of the name."""
    folder, name = posixpath.split(path)
    return posixpath.join(folder, name.partition(".")[0])


def read_range(storage: Storage, path: str, start: int, stop: int) -> bytes:
    """The bytes of a tar from `start` to before `stop`.

    Raises:
        InputError: there is no such file any more, or it has become shorter.
    """
    try:
        data = storage.read(path, start, stop - start)
    except StorageError as error:
        require(storage, path, error)
    if len(data) < stop - start:
        raise InputError("the tar has become shorter", item=storage.at(path), expected=stop, got=start + len(data))
    return data


def is_header(block: bytes) -> bool:
    """Whether a block is a header, by its checksum."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _members(tar: tarfile.TarFile, stream: BinaryIO, size: int, sha: Any) -> Iterator[tarfile.TarInfo]:
    """All members; tarfile itself takes a damaged header, and the end of a truncated file, for the end of the tar."""
    end = -1
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
        if not end < member.offset_data <= tar.offset <= size:
            raise tarfile.ReadError(f"the member at byte {member.offset} ends at {tar.offset} of {size}")
        end = tar.offset
        facts = (member.name, member.offset_data, member.size, member.mtime)
        sha.update(repr(facts).encode(errors="surrogateescape"))
        yield member
    stream.seek(tar.offset)
    tail = stream.read(_TAIL)
    if len(tail) < BLOCK or any(tail):
        raise tarfile.ReadError(f"at byte {tar.offset} of {size} there is neither a header nor the end of a tar")


def _path(member: tarfile.TarInfo, item: str) -> str:
    """A member's path, without the ./ that some tars begin names with."""
    parts = [part for part in member.name.split("/") if part not in {"", "."}]
    if member.name.startswith("/") or ".." in parts:
        raise InputError(
            "a name in it leads out of the tar", item=item, expected="a relative path", got=ascii(member.name)
        )
    return "/".join(parts)


def _cls(data: bytes) -> int:
    text = data.strip()
    return int(text) if text.removeprefix(b"-").isdigit() and len(text) < 18 else NOT_A_LABEL


def _json(data: bytes) -> int | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return NOT_A_LABEL
    label = value.get("label") if isinstance(value, dict) else None
    return label if label is None else _cls(str(label).encode())


_LABELS = {"cls": _cls, "json": _json}


@contextmanager
def _explained(storage: Storage, path: str) -> Iterator[None]:
    """Turn what tarfile raises on missing and damaged files into an InputError that names the file."""
    item = storage.at(path)
    try:
        yield
    except StorageError as error:
        require(storage, path, error)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise InputError(f"not a readable plain tar, or truncated ({error})", item=item) from error

"""One plain tar of images: the offset of each, and their bytes by ranges. Nothing is ever unpacked.

Format: POSIX.1-2008 pax and GNU tar, as Python's tarfile reads their headers. A compressed tar has no random access.
Hidden files, such as the `._NAME` that stands before every NAME in a Mac's tar, are no members.
"""

import hashlib
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from stl_ray.errors import InputError, StorageError
from stl_ray.images.readers.label_files import LARGEST, Kind, read_label
from stl_ray.images.readers.left_out import LeftOut
from stl_ray.images.readers.matching import require
from stl_ray.images.readers.names import is_hidden, is_image, is_text, require_text
from stl_ray.images.readers.packed_rows import PackedRows, unpacked
from stl_ray.store import Storage

NO_BYTES = -1
"""The size of a link, a device or a sparse file: it has an image's name, but no bytes of its own in the tar."""

BLOCK = 512
"""Bytes: the unit of a tar, and its header in front of every member."""

_TAIL = 64 * 1024  # after the last member: at least one block of zeros, and nothing else
# On a disk only headers are read. Elsewhere a request costs more than the bytes that it brings: photographs are read with
# their headers, which takes a fraction of the time of a request for each.
_AHEAD, _AHEAD_ELSEWHERE = 4096, 4 * 2**20

_IMAGE = pa.schema([("path", pa.string()), ("start", pa.int64()), ("size", pa.int64())])
_FILE = pa.schema([("path", pa.string()), ("kind", pa.string()), ("number", pa.int64()), ("name", pa.string())])


@dataclass(frozen=True)
class TarIndex:
    """The index of a tar, from its headers; those of all tars are the listing of a dataset, so it is kept compressed.

    Attributes:
        images: number of images.
        labels: numbers of files by kind: of CLS, JSON and PART those that have to hold a label, of TXT all.
        tars: whether there are tars in it.
        left_out: the members that are neither images nor of a kind that may label one.
        digest: sha256 over the size of the tar and every member's name, offset, size and time of change.
    """

    images: int
    labels: Counter[Kind]
    tars: bool
    left_out: LeftOut
    digest: str
    _images: pa.Buffer
    _files: pa.Buffer

    @property
    def rows(self) -> pa.Table:
        """Every image's path in the tar, its first byte there, and its size (or NO_BYTES), in the order of the tar."""
        return unpacked(self._images)

    @property
    def files(self) -> pa.Table:
        """The path of every other file that is not hidden, and the kind, number and name of its `LabelFile`."""
        return unpacked(self._files)

    @classmethod
    def of(cls, storage: Storage, path: str) -> "TarIndex":
        """Read the headers, and the files that may be labels.

        Raises:
            InputError: no such file, compressed, truncated, damaged, or with a name that leads out of the tar or is no
                text.
        """
        with _explained(storage, path):
            size = storage.size(path)
            sha = hashlib.sha256(str(size).encode())
            ahead = _AHEAD if storage.folder is not None else _AHEAD_ELSEWHERE
            with storage.reader(path, ahead) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
                listing = _Listing(stream, storage.at(path))
                for member in _members(tar, stream, size, sha):
                    listing.add(member)
        return cls(
            listing.images.count,
            listing.labels,
            listing.tars,
            listing.left_out,
            sha.hexdigest(),
            listing.images.close(),
            listing.files.close(),
        )


class _Listing:
    """Sorts the members of a tar as they come."""

    def __init__(self, stream: BinaryIO, item: str) -> None:
        self.images, self.files = PackedRows(_IMAGE), PackedRows(_FILE)
        self.labels: Counter[Kind] = Counter()
        self.tars = False
        self.left_out = LeftOut()
        self._stream, self._item = stream, item

    def add(self, member: tarfile.TarInfo) -> None:
        """Put a member where it belongs."""
        if member.isdir():
            return
        path = _path(member, self._item)
        if is_hidden(path):
            self.left_out.add_names([path])
        elif is_image(path):
            require_text([path], self._item)
            self.images.append((path, member.offset_data, member.size if _is_plain(member) else NO_BYTES))
        else:
            self._add_file(path, member)

    def _add_file(self, path: str, member: tarfile.TarInfo) -> None:
        self.tars |= path.endswith(".tar")
        file = read_label(path, lambda kind: self._data(member, kind))
        if file.kind in {Kind.OTHER, Kind.PART}:
            self.left_out.add_names([path])
        if file.kind is Kind.TXT or not file.is_silent:
            self.labels[file.kind] += 1
        elif not is_text(path):  # it lies beside no image, whose name would be no text either
            return
        require_text([path], self._item)
        self.files.append((path, *file))

    def _data(self, member: tarfile.TarInfo, kind: Kind) -> bytes | None:
        """The bytes of a file that may be a label; None for texts beside labels, which are none."""
        beside_labels = kind is Kind.TXT and self.labels.keys() & {Kind.CLS, Kind.JSON}
        if beside_labels or not _is_plain(member) or member.size > LARGEST:
            return None
        self._stream.seek(member.offset_data)
        return self._stream.read(member.size)


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


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse()


def _path(member: tarfile.TarInfo, item: str) -> str:
    """A member's path, without the ./ that some tars begin names with."""
    parts = [part for part in member.name.split("/") if part not in {"", "."}]
    if member.name.startswith("/") or ".." in parts:
        raise InputError(
            "a name in it leads out of the tar", item=item, expected="a relative path", got=ascii(member.name)
        )
    return "/".join(parts)


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

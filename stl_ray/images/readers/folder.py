"""A folder with one sub-folder per class, as torchvision's ImageFolder reads it.

Classes are the sub-folders, sorted by name; images are the files below them with an image's extension, hidden ones
excepted. Links are followed to files and to folders elsewhere, but not to folders of the same source or above it, whose
images have a path and a class already. Classes take turns, so that every limit and every shard is about balanced.

The listing of a million images is put in order by SQLite, in a file of its own that nobody else sees: what is in memory
are the classes that are being listed, as Arrow columns, 60 bytes an image.
"""

import posixpath
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from stl_ray.errors import InputError, QuarantineReason, StorageError
from stl_ray.images.readers.base import RawImage, SourceShard, shard_digest
from stl_ray.images.readers.fetching import LISTINGS, in_order
from stl_ray.store import Storage

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"})
"""Files with another extension are not images and are passed over (case does not matter)."""

_THREADS = 8  # requests at once while a shard is read: every file is one
_AHEAD = 16  # files in memory before their turn
_ROWS = 4096  # of a listing as Python objects at once

_NONE = pa.array([], pa.string())

Image = tuple[str, int, str]
"""Path relative to the folder, label, and what changes when the file does."""

Listing = tuple[pa.StringArray, pa.StringArray]
"""Of a class: the paths below its folder, and what changes when the files do."""


@dataclass(frozen=True)
class FolderReader:
    """Encoded files; ids are their paths relative to the folder, with forward slashes.

    Args:
        storage: the folder of one split.
        limit: images to take, all when None.
    """

    storage: Storage
    limit: int | None = None

    @property
    def class_names(self) -> list[str]:
        """Names of the sub-folders, sorted.

        Raises:
            InputError: there is no such folder, or it has no sub-folders.
        """
        names = [name for name in self.storage.entries()[0] if not _hidden(name)]
        if not names and not self.storage.exists(""):
            raise InputError("there is no such folder", item=self.storage.root)
        if not names:
            raise InputError("the folder has no classes", item=self.storage.root, expected="one sub-folder per class")
        return names

    def plan(self, shard_size: int) -> Iterator[SourceShard]:
        """Lists of files and labels. The digest covers every file's name, size and time of change, not its bytes.

        Raises:
            InputError: as for `class_names`, or no image in any class, or a file name that is not text.
        """
        images = islice(self._images(), self.limit)
        shard = list(islice(images, shard_size))
        if not shard:
            expected = f"files {' '.join(sorted(EXTENSIONS))}"
            raise InputError("the folder has no images", item=self.storage.root, expected=expected)
        while shard:
            paths, labels, stamps = zip(*shard, strict=True)
            source = {"paths": list(paths), "labels": list(labels)}
            yield SourceShard(source, len(shard), shard_digest(" ".join(stamps), source))
            shard = list(islice(images, shard_size))

    def read(self, source: dict[str, Any]) -> Iterator[RawImage]:
        """Yield the planned files; one that is gone or may not be read comes without data."""
        images = zip(source["paths"], source["labels"], strict=True)
        return in_order(self._image, images, threads=_THREADS, ahead=_AHEAD)

    def _image(self, image: tuple[str, int]) -> RawImage:
        path, label = image
        try:
            return RawImage(path, self.storage.read(path), label, path)
        except StorageError as error:
            # Anything else, such as a server that is away, says nothing about the image.
            if isinstance(error.__cause__, PermissionError) or not self.storage.exists(path):
                return RawImage(path, None, label, path, QuarantineReason.MISSING_IMAGE)
            raise

    def _images(self) -> Iterator[Image]:
        """All images, one of each class in turn."""
        names = self.class_names
        listings = in_order(self._listing, names, threads=LISTINGS, ahead=2 * LISTINGS)
        try:
            for label, path, stamp in _in_turns(listings):
                yield f"{names[label]}/{path}", label, stamp
        except sqlite3.Error as error:
            message = (
                f"SQLite cannot keep the listing in a temporary file ({error}); SQLITE_TMPDIR names a folder for it"
            )
            raise StorageError(message, item=self.storage.root) from error

    def _listing(self, class_name: str) -> Listing:
        """Sorted paths below the class's folder, and stamps, of a class's images; no more than the limit."""
        skipped = len(class_name) + 1
        found = (file for file in self.storage.walk(class_name) if file.leads_to is None)
        files = islice((file for file in found if is_image(file.path[skipped:])), self.limit)
        paths, stamps = [_NONE], [_NONE]
        while rows := list(islice(files, _ROWS)):
            names = [file.path[skipped:] for file in rows]
            require_text(names, self.storage.at(class_name))
            paths.append(pa.array(names))
            stamps.append(pa.array(file.stamp if file.size < 0 else f"{file.size}:{file.stamp}" for file in rows))
        return pa.concat_arrays(paths), pa.concat_arrays(stamps)


def _in_turns(listings: Iterable[Listing]) -> Iterator[tuple[int, str, str]]:
    """Class, path and stamp: the first of every class, then the second of every class, and so on."""
    with closing(sqlite3.connect("")) as table:
        table.execute("CREATE TABLE file (turn INTEGER, label INTEGER, path TEXT, stamp TEXT)")
        for label, (paths, stamps) in enumerate(listings):
            for start in range(0, len(paths), _ROWS):
                rows = zip(
                    paths[start : start + _ROWS].to_pylist(), stamps[start : start + _ROWS].to_pylist(), strict=True
                )
                table.executemany(
                    "INSERT INTO file VALUES (?, ?, ?, ?)",
                    ((turn, label, *row) for turn, row in enumerate(rows, start)),
                )
        yield from table.execute("SELECT label, path, stamp FROM file ORDER BY turn, label")


def is_image(path: str) -> bool:
    """Whether a file has an image's extension and no part of its path is hidden."""
    return posixpath.splitext(path)[1].lower() in EXTENSIONS and not any(map(_hidden, path.split("/")))


def require_text(names: Sequence[str], item: str) -> None:
    """Refuse names that are not text.

    Raises:
        InputError: a name is not UTF-8.
    """
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise InputError("a file name is not UTF-8", item=item, got=ascii(error.object)) from error


def _hidden(name: str) -> bool:
    return name.startswith(".")

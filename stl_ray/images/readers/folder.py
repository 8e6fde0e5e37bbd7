"""A folder with one sub-folder per class, as torchvision's ImageFolder reads it.

Classes are the sub-folders, sorted by name (as text, or as numbers); images are the files below them with an image's extension, hidden ones
excepted. Links are followed to files and to folders elsewhere, but not to folders of the same source or above it, whose
images have a path and a class already. An image to which two classes link is one of each, as copies of it would be.
Classes take turns, so that every limit and every shard is about balanced.

A source is of one split: folders such as `train` and `val` are refused, at the top and below the classes.

SQLite puts the listing of a million images in order, in a temporary file of its own: only the classes that are being
listed are in memory, as Arrow columns, 60 bytes an image.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import pyarrow as pa

from stl_ray.errors import InputError, QuarantineReason, StorageError
from stl_ray.images.codec import EXTENSIONS
from stl_ray.images.readers.base import RawImage, SourceShard, shard_digest
from stl_ray.images.readers.class_order import Order, ordered
from stl_ray.images.readers.fetching import LISTINGS, in_order
from stl_ray.images.readers.left_out import LeftOut
from stl_ray.images.readers.names import folders_of, is_hidden, is_image, require_text
from stl_ray.images.readers.places import Places
from stl_ray.images.readers.splits import are_splits, keywords_in, splits_inside, with_above
from stl_ray.store import FileInfo, Storage

_THREADS = 8  # requests at once while a shard is read: every file is one
_AHEAD = 16  # files in memory before their turn
_ROWS = 4096  # of a listing as Python objects at once

_NONE = pa.array([], pa.string())

Image = tuple[str, int, str]
"""Path relative to the folder, label, and a stamp that changes when the file does."""

Listing = tuple[pa.StringArray, pa.StringArray, LeftOut]
"""The listing of a class: paths below its folder, stamps that change when the files do, and what is left out."""


@dataclass
class FolderReader:
    """Encoded files; ids are their paths relative to the folder, with forward slashes.

    Args:
        storage: the folder of one split.
        limit: images to take, all when None.
        class_order: of the sub-folders' names.

    Attributes:
        left_out: counts of what else is in the folder; complete once a plan was taken to its end.
    """

    storage: Storage
    limit: int | None = None
    class_order: Order = "text"
    left_out: LeftOut = field(default_factory=LeftOut, init=False)

    @property
    def class_names(self) -> list[str]:
        """Names of the sub-folders, in order.

        Raises:
            InputError: there is no such folder, it has no sub-folders, these are splits, or their names have no such order.
        """
        names = self._top[0]
        if not names and not self.storage.exists(""):
            raise InputError("there is no such folder", item=self.storage.root)
        if not names:
            raise InputError("the folder has no classes", item=self.storage.root, expected="one sub-folder per class")
        return ordered(names, self.class_order, self.storage.root)

    @property
    def places(self) -> Places:
        """The folder, and the folders of classes that are links to elsewhere."""
        return Places.of_folder(self.storage, self.class_names)

    def plan(self, shard_size: int) -> Iterator[SourceShard]:
        """Lists of files and labels. The digest covers every file's name, size and time of change, not its bytes.

        Raises:
            InputError: as for `class_names`, or no image in any class, or a file name that is not text, or folders in a class
                that are splits.
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
        self.left_out = LeftOut()
        self.left_out.merge(self._top[1])
        listings = in_order(self._listing, names, threads=LISTINGS, ahead=2 * LISTINGS)
        try:
            for label, path, stamp in _in_turns(listings, self.left_out):
                yield f"{names[label]}/{path}", label, stamp
        except sqlite3.Error as error:
            message = (
                f"SQLite cannot keep the listing in a temporary file ({error}); SQLITE_TMPDIR names a folder for it"
            )
            raise StorageError(message, item=self.storage.root) from error

    @cached_property
    def _top(self) -> tuple[list[str], LeftOut]:
        """The classes, and what lies beside their folders."""
        folders, files = self.storage.entries()
        names = [name for name in folders if not is_hidden(name)]
        self._refuse_splits(names)
        left_out = LeftOut(hidden=len(folders) - len(names))
        for file in files:
            left_out.add(file, beside=True)
        return names, left_out

    def _refuse_splits(self, names: list[str]) -> None:
        """Refuse sub-folders such as `train` and `val`, unless another one has images, which make all of them classes."""
        splits = [name for name in names if keywords_in(name)]
        others = [name for name in names if name not in splits]
        if are_splits(splits) and not any(self._has_images(name) for name in others):
            raise InputError(
                "the sub-folders are splits, not classes", item=self.storage.root,
                expected=f"the path of one split: {' or '.join(map(self.storage.at, splits))}",
            )  # fmt: skip

    def _refuse_splits_below(self, class_name: str, images: pa.StringArray, *, cut: bool) -> None:
        """Refuse sub-folders of a class, at any depth, such as `train` and `val`; all of its images would be of one split."""
        folders = {f"{class_name}/{folder}" for folder in folders_of(images)}
        if cut:  # what lies beside the images that a limit takes was not listed
            above = with_above(folders) | {class_name}
            beside = (f"{folder}/{name}" for folder in above for name in self.storage.entries(folder)[0])
            folders |= {folder for folder in beside if not is_hidden(folder)}
        if splits := splits_inside(folders):
            raise InputError(
                "folders in a class are splits", item=self.storage.root, got=", ".join(splits),
                expected="the folder of one split, which has a folder for each class",
            )  # fmt: skip

    def _has_images(self, name: str) -> bool:
        return next(self._files(name, LeftOut()), None) is not None

    def _listing(self, class_name: str) -> Listing:
        """The listing of a class's images, sorted by path, no more than the limit."""
        left_out = LeftOut()
        skipped = len(class_name) + 1
        files = islice(self._files(class_name, left_out), self.limit)
        paths, stamps = [_NONE], [_NONE]
        while rows := list(islice(files, _ROWS)):
            names = [file.path[skipped:] for file in rows]
            require_text(names, self.storage.at(class_name))
            paths.append(pa.array(names))
            stamps.append(pa.array(file.stamp if file.size < 0 else f"{file.size}:{file.stamp}" for file in rows))
        images = pa.concat_arrays(paths)
        left_out.at_least = int(len(images) == self.limit)
        self._refuse_splits_below(class_name, images, cut=len(images) == self.limit)
        if not len(images):
            left_out.add_empty(class_name)
        return images, pa.concat_arrays(stamps), left_out

    def _files(self, class_name: str, left_out: LeftOut) -> Iterator[FileInfo]:
        """The images of a class; the other files are counted."""
        for file in self.storage.walk(class_name):
            # A link with an image's name that leads nowhere is an image without bytes.
            if file.leads_to is None and is_image(file.path.removeprefix(f"{class_name}/")):
                yield file
            else:
                left_out.add(file)


def _in_turns(listings: Iterable[Listing], left_out: LeftOut) -> Iterator[tuple[int, str, str]]:
    """Class, path and stamp: the first of every class, then the second of every class, and so on.

    Args:
        listings: of the classes.
        left_out: receives the counts of what all of them leave out.
    """
    with closing(sqlite3.connect("")) as table:
        table.execute("CREATE TABLE file (turn INTEGER, label INTEGER, path TEXT, stamp TEXT)")
        for label, (paths, stamps, others) in enumerate(listings):
            left_out.merge(others)
            for start in range(0, len(paths), _ROWS):
                rows = zip(
                    paths[start : start + _ROWS].to_pylist(), stamps[start : start + _ROWS].to_pylist(), strict=True
                )
                table.executemany(
                    "INSERT INTO file VALUES (?, ?, ?, ?)",
                    ((turn, label, *row) for turn, row in enumerate(rows, start)),
                )
        yield from table.execute("SELECT label, path, stamp FROM file ORDER BY turn, label")

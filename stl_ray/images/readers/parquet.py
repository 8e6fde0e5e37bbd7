"""Parquet files with an image column: ours, those of Hugging Face datasets, and of other tools.

Images are a struct<bytes, path> or plain bytes, labels integers or names; which columns they are, `parquet_columns.py` decides. Ids
are a column `id`, or else `<file stem>/<row>`. Rows keep the order of the files, which is the order of their paths.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import pyarrow.compute as pc

from stl_ray.errors import InputError, QuarantineReason
from stl_ray.images.readers.base import (
    MOST_CLASSES,
    UNKNOWN_LABEL,
    RawImage,
    SourceShard,
    Split,
    label_problem,
    ranges,
    shard_digest,
)
from stl_ray.images.readers.duplicates import Hashes, hashes_of, repeated
from stl_ray.images.readers.fetching import LISTINGS, in_order
from stl_ray.images.readers.left_out import LeftOut
from stl_ray.images.readers.matching import beside, home, stems
from stl_ray.images.readers.parquet_columns import text_of
from stl_ray.images.readers.parquet_file import ImageFile
from stl_ray.images.readers.places import Places
from stl_ray.images.readers.splits import Chosen, files_of
from stl_ray.store import Storage

Result = TypeVar("Result")

_SUFFIXES = (".parquet",)


@dataclass
class ParquetReader:
    """Encoded images from the rows of one or more files.

    Args:
        place: a file, a folder (its `*.parquet` files, not those of sub-folders) or a pattern.
        split: which files of a folder, where their names tell.
        limit: rows to take, all when None.
    """

    place: Storage
    split: Split
    limit: int | None = None

    @cached_property
    def class_names(self) -> list[str]:
        """The names in the first file's metadata; where it has none, those in the label columns of all files, sorted, or the
        numbers up to the largest label.

        Raises:
            InputError: a file cannot be used, there are neither names nor a sensible largest label, or a folder's files
                are of several splits and names do not settle which (`splits.py`).
        """
        first = ImageFile.open(self._folder, self._paths[0])
        if first.class_names is not None:
            return first.class_names
        return self._named_classes() if first.columns.has_names else self._numbered_classes()

    @property
    def left_out(self) -> LeftOut:
        """What is beside the Parquet files of a folder, and its files of other splits."""
        left_out = beside(self.place, _SUFFIXES)
        left_out.splits += self._chosen.passed_over
        return left_out

    @property
    def places(self) -> Places:
        """The files."""
        return Places.of_files(self._folder, self._paths)

    def plan(self, shard_size: int) -> Iterator[SourceShard]:
        """Ranges of a file's rows, with the rows that repeat an id. The digest covers the file's size and footer.

        Raises:
            InputError: no file, no rows or none with bytes, a file that is truncated or not Parquet, without images, or with classes
                other than the first file's.
        """
        files = self._files
        for file in files:
            if file.class_names != files[0].class_names:
                raise InputError(
                    "its classes are not those of the first file",
                    item=file.at,
                    expected=files[0].class_names,
                    got=file.class_names,
                )
            if file.columns.has_names != files[0].columns.has_names:
                raise InputError("its labels are names, or the first file's are, but not both", item=file.at)
        left = sum(file.rows for file in files) if self.limit is None else self.limit
        if not sum(file.rows for file in files):
            raise InputError("the files have no rows", item=self.place.root)
        if not any(file.has_bytes for file in files):
            expected = "the encoded files in them; `Dataset.to_parquet` and `push_to_hub` of Hugging Face write these"
            raise InputError("no row has an image's bytes", item=files[0].at, expected=expected)
        facts = zip(stems(self._paths), repeated(self._of_each(_ids)), self._of_each(ImageFile.digest), strict=True)
        for file, (stem, again, content) in zip(files, facts, strict=True):
            taken = min(file.rows, left)
            labels = self._places(file) if file.columns.has_names else None
            for start, stop in ranges(taken, shard_size):
                source = {
                    "file": file.path,
                    "stem": stem,
                    "start": start,
                    "stop": stop,
                    "duplicates": again[(again >= start) & (again < stop)].tolist(),
                    "classes": len(self.class_names),
                }
                if labels is not None:
                    source["labels"] = labels[start:stop]
                yield SourceShard(source, stop - start, shard_digest(content, source))
            left -= taken

    def read(self, source: dict[str, Any]) -> Iterator[RawImage]:
        """Yield the images of a range of rows.

        Raises:
            InputError: the file can no longer be read, or has become shorter.
        """
        file = ImageFile.open(self._folder, source["file"])
        if file.rows < source["stop"]:
            raise InputError("the file has become shorter", item=file.at, expected=source["stop"], got=file.rows)
        duplicates = frozenset(source["duplicates"])
        labels = source.get("labels")
        for record in file.records(source["start"], source["stop"]):
            label = record.label if labels is None else labels[record.row - source["start"]]
            duplicate = QuarantineReason.DUPLICATE_ID if record.row in duplicates else None
            yield RawImage(
                id=f"{source['stem']}/{record.row}" if record.id is None else record.id,
                data=record.data,
                label=label,
                path=record.path,
                problem=duplicate or label_problem(label, source["classes"]),
            )

    def _named_classes(self) -> list[str]:
        names = sorted(set().union(*self._of_each(_names)))
        if not 0 < len(names) <= MOST_CLASSES:
            expected = f"names of at most {MOST_CLASSES} classes in the labels"
            raise InputError("no classes", item=self.place.root, expected=expected, got=f"{len(names)} different names")
        return names

    def _places(self, file: ImageFile) -> list[int]:
        """The labels of a file whose label column has names; a name that is no class, as metadata may have it, is past all."""
        places: dict[str | None, int] = {name: place for place, name in enumerate(self.class_names)}
        places[None] = UNKNOWN_LABEL
        texts = file.column(file.columns.label)
        return [places.get(name, len(self.class_names)) for chunk in texts.iterchunks() for name in chunk.to_pylist()]

    def _numbered_classes(self) -> list[str]:
        labels = [label for label in self._of_each(_largest_label) if label is not None]
        classes = 1 + max(labels, default=-1)
        if not 0 < classes <= MOST_CLASSES:
            expected = f"class names in the metadata, or labels from 0 to at most {MOST_CLASSES - 1}"
            got = f"{classes - 1} as the largest label" if labels else "no label in any row"
            raise InputError("no classes", item=self.place.root, expected=expected, got=got)
        return [str(label) for label in range(classes)]

    def _of_each(self, function: Callable[[ImageFile], Result]) -> Iterator[Result]:
        """The results of a function on the files, several at a time."""
        return in_order(function, self._files, threads=LISTINGS, ahead=LISTINGS)

    @cached_property
    def _files(self) -> list[ImageFile]:
        opened = partial(ImageFile.open, self._folder)
        return list(in_order(opened, self._paths, threads=LISTINGS, ahead=LISTINGS))

    @property
    def _paths(self) -> list[str]:
        return self._chosen.paths

    @cached_property
    def _chosen(self) -> Chosen:
        chosen = files_of(self.split, self.place, _SUFFIXES)
        if not chosen.paths:
            raise InputError("there are no Parquet files here", item=self.place.root, expected="*.parquet")
        return chosen

    @cached_property
    def _folder(self) -> Storage:
        return home(self.place, _SUFFIXES)


def _names(file: ImageFile) -> set[str]:
    """The names in a label column."""
    chunks = file.column(file.columns.label).iterchunks()
    # Not `unique`, which makes empty texts of the nulls in a view (pyarrow 26).
    return {name for chunk in chunks for name in chunk.to_pylist() if name is not None}


def _largest_label(file: ImageFile) -> int | None:
    largest: int | None = pc.max(file.column(file.columns.label)).as_py()
    return largest


def _ids(file: ImageFile) -> Hashes:
    """The hashes of a file's ids; a row without an id gets one from its number, which no other row has."""
    if file.columns.id is None:
        return hashes_of([])
    parts, start = [hashes_of([])], 0
    for chunk in file.column(file.columns.id).iterchunks():
        parts.append(hashes_of([text_of(value) for value in chunk.to_pylist()], start))
        start += len(chunk)
    positions, keys = zip(*parts, strict=True)
    return np.concatenate(positions), np.concatenate(keys)

"""Parquet files with an image column: ours, and those of Hugging Face datasets.

The image column is a struct<bytes, path> or plain binary, named `image` or marked as `Image` by Hugging Face
metadata; labels are integers, named `label` or marked as `ClassLabel`; ids are a column `id`, or else
`<file stem>/<row>`. Rows keep the order of the files, which is the order of their paths.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stl_ray.errors import InputError, QuarantineReason
from stl_ray.images.readers.base import RawImage, SourceShard, label_problem, ranges, shard_digest
from stl_ray.images.readers.parquet_file import ImageFile

_MOST_CLASSES = 100_000  # a larger label is damage, not a class: the largest datasets have some 20,000


@dataclass
class ParquetReader:
    """Encoded images from the rows of one or more files.

    Args:
        path: a file, a folder (its `*.parquet` files, not those of sub-folders) or a glob.
        limit: rows to take, all when None.
    """

    path: Path
    limit: int | None = None

    @cached_property
    def class_names(self) -> list[str]:
        """The names in the first file's metadata; where it has none, the numbers up to the largest label.

        Raises:
            InputError: a file cannot be used, or there are neither names nor a sensible largest label.
        """
        names = ImageFile.open(self._paths()[0]).class_names
        return self._numbered_classes() if names is None else names

    def plan(self, shard_size: int) -> list[SourceShard]:
        """Ranges of a file's rows, with those whose id came before. The digest covers the file's size and footer.

        Raises:
            InputError: no file or no rows, a file that is truncated or not Parquet, without images, or with classes
                other than the first file's.
        """
        files = self._files()
        for file in files:
            if file.class_names != files[0].class_names:
                raise InputError(
                    "its classes are not those of the first file",
                    item=file.path,
                    expected=files[0].class_names,
                    got=file.class_names,
                )
        folder = os.path.commonpath([file.path.parent for file in files])
        shards = []
        left = sum(file.rows for file in files) if self.limit is None else self.limit
        for file, repeated in zip(files, _repeated_ids(files), strict=True):
            taken = min(file.rows, left)
            for start, stop in ranges(taken, shard_size):
                source = {
                    "file": str(file.path),
                    "stem": file.path.relative_to(folder).with_suffix("").as_posix(),
                    "start": start,
                    "stop": stop,
                    "duplicates": repeated[(repeated >= start) & (repeated < stop)].tolist(),
                    "classes": len(self.class_names),
                }
                shards.append(SourceShard(source, stop - start, shard_digest(file.digest(), source)))
            left -= taken
        if not shards:
            raise InputError("the files have no rows", item=self.path)
        return shards

    def read(self, source: dict[str, Any]) -> Iterator[RawImage]:
        """Yield the images of a range of rows.

        Raises:
            InputError: the file can no longer be read, or has become shorter.
        """
        file = ImageFile.open(Path(source["file"]))
        if file.rows < source["stop"]:
            raise InputError("the file has become shorter", item=file.path, expected=source["stop"], got=file.rows)
        duplicates = frozenset(source["duplicates"])
        for record in file.records(source["start"], source["stop"]):
            repeated = QuarantineReason.DUPLICATE_ID if record.row in duplicates else None
            yield RawImage(
                id=f"{source['stem']}/{record.row}" if record.id is None else record.id,
                data=record.data,
                label=record.label,
                path=record.path,
                problem=repeated or label_problem(record.label, source["classes"]),
            )

    def _numbered_classes(self) -> list[str]:
        files = self._files()
        largest = [pc.max(file.column(file.label)).as_py() for file in files if file.label is not None]
        classes = 1 + max((label for label in largest if label is not None), default=-1)
        if not 0 < classes <= _MOST_CLASSES:
            expected = f"class names in the metadata, or labels from 0 to at most {_MOST_CLASSES - 1}"
            raise InputError("no classes", item=self.path, expected=expected, got=f"{classes - 1} as the largest label")
        return [str(label) for label in range(classes)]

    def _files(self) -> list[ImageFile]:
        return [ImageFile.open(path) for path in self._paths()]

    def _paths(self) -> list[Path]:
        if self.path.is_dir():
            paths = list(self.path.glob("*.parquet"))
        else:
            anchor = Path(self.path.anchor)
            paths = [self.path] if self.path.exists() else list(anchor.glob(str(self.path.relative_to(anchor))))
        if not paths:
            raise InputError("there are no Parquet files here", item=self.path, expected="*.parquet")
        return sorted(paths)


def _repeated_ids(files: list[ImageFile]) -> list[NDArray[np.int64]]:
    """For every file the rows whose id an earlier row has, in that file or one before it."""
    counts = [0 if file.id is None else file.rows for file in files]
    ids = pa.chunked_array(
        [
            chunk
            for file in files
            if file.id is not None
            for chunk in file.column(file.id).cast(pa.large_string()).iterchunks()
        ],
        type=pa.large_string(),
    )
    codes = ids.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
    repeated = np.ones(len(codes), dtype=bool)
    repeated[np.unique(codes, return_index=True)[1]] = False
    repeated[codes == -1] = False  # a row without an id gets one from its place
    return [np.flatnonzero(part) for part in np.split(repeated, np.cumsum(counts)[:-1])]

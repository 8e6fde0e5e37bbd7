"""A folder with one sub-folder per class, as torchvision's ImageFolder reads it.

Classes are the sub-folders, sorted by name; images are the files below them with an image's extension, hidden ones
excepted. Classes take turns, so that every limit and every shard is about balanced.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from stl_ray.errors import InputError, QuarantineReason
from stl_ray.images.readers.base import RawImage, SourceShard, ranges, shard_digest

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"})
"""Files with another extension are not images and are passed over (case does not matter)."""


@dataclass(frozen=True)
class FolderReader:
    """Encoded files; ids are their paths relative to the folder, with forward slashes.

    Args:
        root: the folder of one split.
        limit: images to take, all when None.
    """

    root: Path
    limit: int | None = None

    @property
    def class_names(self) -> list[str]:
        """Names of the sub-folders, sorted.

        Raises:
            InputError: there is no such folder, or it has no sub-folders.
        """
        if not self.root.is_dir():
            raise InputError("there is no such folder", item=self.root)
        names = sorted(entry.name for entry in self.root.iterdir() if entry.is_dir() and not _hidden(entry.name))
        if not names:
            raise InputError("the folder has no classes", item=self.root, expected="one sub-folder per class")
        return names

    def plan(self, shard_size: int) -> list[SourceShard]:
        """Lists of files and labels. The digest covers every file's name, size and time of change, not its bytes.

        Raises:
            InputError: as for `class_names`, or no image in any class, or a file name that is not text.
        """
        by_class = [[(path, label) for path in self._paths(name)] for label, name in enumerate(self.class_names)]
        images = [image for image in chain.from_iterable(zip_longest(*by_class)) if image is not None][: self.limit]
        if not images:
            raise InputError(
                "the folder has no images", item=self.root, expected=f"files {' '.join(sorted(EXTENSIONS))}"
            )
        shards = []
        for start, stop in ranges(len(images), shard_size):
            paths, labels = zip(*images[start:stop], strict=True)
            source = {"paths": list(paths), "labels": list(labels)}
            content = " ".join(_stamp(self.root / path) for path in paths)
            shards.append(SourceShard(source, stop - start, shard_digest(content, source)))
        return shards

    def read(self, source: dict[str, Any]) -> Iterator[RawImage]:
        """Yield the planned files; one that is gone or may not be read comes without data."""
        for path, label in zip(source["paths"], source["labels"], strict=True):
            try:
                yield RawImage(path, (self.root / path).read_bytes(), label, path)
            except (FileNotFoundError, PermissionError):
                yield RawImage(path, None, label, path, QuarantineReason.MISSING_IMAGE)

    def _paths(self, class_name: str) -> list[str]:
        """Sorted paths, relative to the root, of a class's images."""
        found = []
        for folder, subfolders, names in os.walk(self.root / class_name):
            subfolders[:] = [name for name in subfolders if not _hidden(name)]
            relative = Path(folder).relative_to(self.root)
            found += [
                (relative / name).as_posix()
                for name in names
                if not _hidden(name) and Path(name).suffix.lower() in EXTENSIONS
            ]
        try:
            "".join(found).encode()
        except UnicodeEncodeError as error:
            raise InputError(
                "a file name is not UTF-8", item=self.root / class_name, got=ascii(error.object)
            ) from error
        return sorted(found)


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except FileNotFoundError:  # a dangling link: planned all the same, and set aside when it is read
        return "missing"
    return f"{status.st_size}:{status.st_mtime_ns}"

"""The interface of a source of images: its classes, a plan of shards, and the images of one shard, one at a time.

A reader is made anew in every worker, from paths and names: all that planning learned travels in the plan. It reads
through a Storage, lazily, and yields a bad image with its problem, so that one image never takes others with it.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stl_ray.errors import QuarantineReason
from stl_ray.images.readers.left_out import LeftOut
from stl_ray.images.readers.places import Places

Split = Literal["train", "test"]

UNKNOWN_LABEL = -1
"""The label of an image whose class is not known."""

MOST_CLASSES = 100_000
"""A larger label is damage, not a class: the largest datasets have some 20,000."""


@dataclass(frozen=True)
class SourceShard:
    """A piece of a source that becomes one output shard.

    Attributes:
        source: what `Reader.read` needs to find the piece again; JSON values only.
        rows: number of images that `Reader.read` yields for it, bad ones included.
        digest: sha256 hex of what was planned (see each reader for what it covers); it changes when the source does.
    """

    source: dict[str, Any]
    rows: int
    digest: str


@dataclass(frozen=True)
class RawImage:
    """One image as the source has it.

    Attributes:
        id: unique in the source and stable.
        data: an encoded file, pixels (H, W, 3) uint8 RGB, or None where the source has no image.
        label: index into the reader's class names, or -1; with `problem` LABEL_OUT_OF_RANGE the source's label.
        path: file name in the source, where there is one.
        problem: why the image must be set aside, None for an image that may be used.
    """

    id: str
    data: bytes | NDArray[np.uint8] | None
    label: int
    path: str | None = None
    problem: QuarantineReason | None = None


class Reader(Protocol):
    """One split of one source."""

    @property
    def class_names(self) -> list[str]:
        """Name of every label, in label order."""
        ...

    @property
    def left_out(self) -> LeftOut:
        """Counts of what the source holds beside its images; complete once a plan was taken to its end."""
        ...

    @property
    def places(self) -> Places:
        """What is read, to compare with the other split's.

        Raises:
            InputError: the source is missing, or its splits are not certain.
        """
        ...

    def plan(self, shard_size: int) -> Iterator[SourceShard]:
        """Cut the source into shards of at most `shard_size` images, one at a time: a million names need not be in memory.

        Raises:
            InputError: the source holds no images, or a file of it cannot be used.
        """
        ...

    def read(self, source: dict[str, Any]) -> Iterator[RawImage]:
        """Yield the images of one planned shard, in order.

        Args:
            source: `SourceShard.source` of a plan of this reader.

        Raises:
            InputError: a file can no longer be read, or no longer holds what was planned.
        """
        ...


def ranges(total: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of the pieces, of at most `size` items each, of `total` items."""
    for start in range(0, total, size):
        yield start, min(start + size, total)


def shard_digest(content: str, source: dict[str, Any]) -> str:
    """The digest of a shard, from what identifies the content of its file or files and from the piece that it is."""
    return hashlib.sha256(json.dumps([content, source], sort_keys=True).encode()).hexdigest()


def label_problem(label: int, classes: int) -> QuarantineReason | None:
    """LABEL_OUT_OF_RANGE unless the label is a class or unknown."""
    return None if UNKNOWN_LABEL <= label < classes else QuarantineReason.LABEL_OUT_OF_RANGE

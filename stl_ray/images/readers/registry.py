"""The formats of a `Source`, each with its reader."""

from collections.abc import Callable

from stl_ray.config import Source
from stl_ray.images.readers.base import Reader, Split
from stl_ray.images.readers.cifar10 import Cifar10Reader
from stl_ray.images.readers.folder import FolderReader
from stl_ray.images.readers.parquet import ParquetReader
from stl_ray.images.readers.photographs import PhotographsReader
from stl_ray.images.readers.tar import TarReader
from stl_ray.store import Storage

_FILES: dict[str, Callable[[Storage, Split, Source], Reader]] = {
    "folder": lambda storage, split, source: FolderReader(storage, source.limit, source.class_order),
    "cifar10": lambda storage, split, source: Cifar10Reader(storage, split, source.limit),
    "parquet": lambda storage, split, source: ParquetReader(storage, split, source.limit),
    "tar": lambda storage, split, source: TarReader(storage, split, source.limit, source.class_order),
}


def open_reader(source: Source, *, split: Split) -> Reader:
    """The reader of one split.

    Opening touches no file: a source that is missing or empty says so when its classes or its plan are asked for.

    Args:
        source: the format, and the path of this split (of both splits for CIFAR-10, which comes as one folder).
        split: which half of a source that holds both, or whose files tell by their names (`splits.py`).

    Raises:
        InputError: the path names a kind of storage that is not supported.
    """
    if source.path is None:
        return PhotographsReader(split, source.limit)
    return _FILES[source.format](Storage.open(source.path), split, source)

"""A dataset's images on a node's own disk, where every rank finds any of them at once.

    <scratch>/stl-ray-<dataset>/images.bin     one image after the other: as pixels, or as they are stored
    <scratch>/stl-ray-<dataset>/index.arrow    id, label, offset and length of each; written last
    <scratch>/stl-ray-<dataset>.lock           held shared by its users, and alone by the one that removes it
    <scratch>/stl-ray-<dataset>.making         held by the one that makes or removes it

Parquet gives images by row groups, and a random order would read each group for each of its images. So the first rank on
a node copies every image once, checked against the manifest, and all of them map the copy into memory: an epoch's order
is then free, whatever the number of workers, no image is read from the storage twice, and the memory is the page cache's.
Datasets of up to 8 GiB of pixels are decoded here, once for all epochs; larger ones by the loaders.

An unfinished copy is made anew; the last user of a copy removes it.
"""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.errors import StorageError
from stl_ray.store import Dataset
from stl_ray.store.filesystem import canonical_json
from stl_ray.store.shards import sha256
from stl_ray.training.data.cache_build import build_cache, of_size

MOST_DECODED = 8 * 2**30
"""Bytes of pixels up to which a copy is kept decoded."""


class CachedImages:
    """The images of a finished copy, as `TrainingImages`.

    Args:
        folder: of the copy. It must stay while the object is used: see `cached_images`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with pa.memory_map(str(folder / "index.arrow")) as source:
            self._index = pa.ipc.open_file(source).read_all()
        record = json.loads(self._index.schema.metadata[b"pack"])
        self.class_names: list[str] = record["class_names"]
        self.decoded: bool = record["decoded"]
        self.size: tuple[int, int] = (record["height"], record["width"])
        shape = (len(self), *self.size, 3) if self.decoded else None
        self._bytes: NDArray[np.uint8] = np.memmap(folder / "images.bin", dtype=np.uint8, mode="r", shape=shape)

    def __reduce__(self) -> tuple[Any, ...]:
        """A loader's process maps the files itself."""
        return CachedImages, (self.folder,)

    def __len__(self) -> int:
        return int(self._index.num_rows)

    @property
    def labels(self) -> Tensor:
        """See `TrainingImages`."""
        return torch.from_numpy(self._index.column("label").to_numpy().copy())

    def ids(self, indices: Sequence[int]) -> list[str]:
        """See `TrainingImages`."""
        names: list[str] = self._index.column("id").take(pa.array(indices, pa.int64())).to_pylist()
        return names

    def pixels(self, indices: Sequence[int]) -> Tensor:
        """See `TrainingImages`.

        Raises:
            InputError: images differ in size.
            ImageError: an image cannot be decoded.
        """
        images = self._bytes[list(indices)] if self.decoded else np.stack([self._decode(number) for number in indices])
        # The memory layout stays that of image files, which torchvision resizes fastest.
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def _decode(self, number: int) -> NDArray[np.uint8]:
        start, length = (self._index.column(name)[number].as_py() for name in ("start", "length"))
        data = self._bytes[start : start + length].tobytes()
        return of_size(data, self.size, self._index.column("id")[number].as_py())


@contextmanager
def cached_images(
    dataset: Dataset,
    scratch: str | None = None,
    most_decoded: int = MOST_DECODED,
    tell: Callable[[int], None] = lambda images: None,
) -> Iterator[CachedImages]:
    """A dataset's images on this node for the time of the block, copied unless another process has copied them.

    Args:
        dataset: a finished dataset of labelled images.
        scratch: folder on the node's own disk; the system's temporary one where there is none.
        most_decoded: bytes of pixels up to which images are decoded once for all.
        tell: called, while this process copies, with the number of images so far.

    Raises:
        AuditError: the dataset's bytes do not agree with its manifest.
        InputError: images differ in size, an id comes twice, or the classes have no names.
        StorageError: the dataset cannot be read, or the disk has no room for it.
    """
    folder = Path(scratch or tempfile.gettempdir()) / f"stl-ray-{_key(dataset, most_decoded)}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        using = folder.with_suffix(".lock").open("ab")
        making = folder.with_suffix(".making").open("ab")
    except OSError as error:
        raise StorageError(f"no folder for images on this node ({error})", item=str(folder.parent)) from error
    index = folder / "index.arrow"
    with using, making:
        while True:
            fcntl.flock(using, fcntl.LOCK_SH)
            if index.exists():
                break
            # Nobody waits for those who use it: ranks wait for each other meanwhile.
            fcntl.flock(using, fcntl.LOCK_UN)
            fcntl.flock(making, fcntl.LOCK_EX)
            if not index.exists():
                build_cache(dataset, folder, most_decoded, tell)
            fcntl.flock(making, fcntl.LOCK_UN)
        yield CachedImages(folder)
        # Not after a failure: the next attempt needs it.
        with suppress(BlockingIOError):  # another rank reads on
            fcntl.flock(using, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(making, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def _key(dataset: Dataset, most_decoded: int) -> str:
    """The name of a copy's content: its parts, and the limit up to which they are decoded."""
    return sha256(canonical_json([dataset.digest, dataset.manifest["parts"], most_decoded]))[:16]

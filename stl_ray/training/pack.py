"""A dataset's images on a node's own disk, where every rank finds any of them at once.

    <scratch>/stl-ray-<dataset>/images.bin     one image after the other: as pixels, or as they are stored
    <scratch>/stl-ray-<dataset>/index.arrow    id, label, place and length of each; written last
    <scratch>/stl-ray-<dataset>.lock           held by all who use it, and by one while it is made or removed

Parquet gives images by row groups, and a random order would read each group for each of its images. So the first rank on
a node copies every image once, checked against the manifest, and all of them map the copy into memory: an epoch's order
is then free, whatever the number of workers, no image is read from the storage twice, and the memory is the page cache's.
Datasets of up to 8 GiB of pixels are decoded here, once for all epochs; larger ones by the loaders.

A pack that its maker did not finish is made anew; the last user removes it.
"""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.errors import AuditError, ImageError, InputError, StorageError
from stl_ray.images import class_names_of, decode
from stl_ray.store import Dataset
from stl_ray.store.filesystem import canonical_json
from stl_ray.store.shards import sha256

MOST_DECODED = 8 * 2**30
"""Bytes: up to so many all pixels are kept decoded."""

_READERS = 4  # whole parts in memory at once
_PIXELS = 2**31  # stored images passed ingest's limit
_INDEX = pa.schema([("id", pa.string()), ("label", pa.int64()), ("start", pa.int64()), ("length", pa.int64())])


class ImagePack:
    """The images of a pack; `TrainingImages`.

    Args:
        folder: of the pack. It must stay while the object is used: see `packed`.
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
        return ImagePack, (self.folder,)

    def __len__(self) -> int:
        return int(self._index.num_rows)

    @property
    def labels(self) -> Tensor:
        """See `TrainingImages`."""
        return torch.from_numpy(self._index.column("label").to_numpy().copy())

    def ids(self, places: Sequence[int]) -> list[str]:
        """See `TrainingImages`."""
        names: list[str] = self._index.column("id").take(pa.array(places, pa.int64())).to_pylist()
        return names

    def pixels(self, places: Sequence[int]) -> Tensor:
        """See `TrainingImages`.

        Raises:
            InputError: images differ in size.
            ImageError: an image cannot be decoded.
        """
        images = self._bytes[list(places)] if self.decoded else np.stack([self._decode(place) for place in places])
        return torch.from_numpy(images).permute(0, 3, 1, 2)  # as images lie in files, which torchvision resizes fastest

    def _decode(self, place: int) -> NDArray[np.uint8]:
        start, length = (self._index.column(name)[place].as_py() for name in ("start", "length"))
        data = self._bytes[start : start + length].tobytes()
        return _of_size(data, self.size, self._index.column("id")[place].as_py())


@contextmanager
def packed(
    dataset: Dataset,
    scratch: str | None = None,
    most_decoded: int = MOST_DECODED,
    tell: Callable[[int], None] = lambda images: None,
) -> Iterator[ImagePack]:
    """The pack of a dataset on this node for the time of the block, made unless another process has made it.

    Args:
        dataset: a finished dataset of labelled images.
        scratch: folder on the node's own disk; the system's temporary one where there is none.
        most_decoded: bytes of pixels up to which images are decoded once for all.
        tell: called, while the pack is made here, with the images that it has so far.

    Raises:
        AuditError: the dataset's bytes do not agree with its manifest.
        InputError: images differ in size, an id comes twice, or the classes have no names.
        StorageError: the dataset cannot be read, or the disk has no room for it.
    """
    folder = Path(scratch or tempfile.gettempdir()) / f"stl-ray-{_key(dataset, most_decoded)}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_suffix(".lock").open("ab")
    except OSError as error:
        raise StorageError(f"no folder for images on this node ({error})", item=str(folder.parent)) from error

    def is_there_under(kind: int) -> bool:
        fcntl.flock(lock, kind)
        return (folder / "index.arrow").exists()

    with lock:
        # A lock is not changed in one step: after every change, look again.
        while not is_there_under(fcntl.LOCK_SH):
            if not is_there_under(fcntl.LOCK_EX):
                _make(dataset, folder, most_decoded, tell)
        yield ImagePack(folder)
        # Not after a failure: the next attempt needs it.
        with suppress(BlockingIOError):  # another rank reads on
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def audited(dataset: Dataset) -> None:
    """Refuse a manifest that disagrees with itself or with what lies in the folder; no image is read.

    Raises:
        AuditError: rows, digest, or a part's file or size are not what the manifest says.
    """
    manifest, storage = dataset.manifest, dataset.storage
    problems = []
    if sum(part["rows"] for part in dataset.parts) != dataset.rows:
        problems.append(f"its parts have {sum(part['rows'] for part in dataset.parts)} rows, not {dataset.rows}")
    if sha256(canonical_json([[part["rows"], part["sha256"]] for part in dataset.parts])) != dataset.digest:
        problems.append(f"its parts do not add up to the digest {dataset.digest}")
    if dataset.rows == 0:
        problems.append("it has no images")

    def problem(part: dict[str, Any]) -> str | None:
        try:
            size = storage.size(part["file"])
        except StorageError as error:
            return str(error)
        return None if size == part["bytes"] else f"{part['file']} has {size} bytes, not {part['bytes']}"

    with ThreadPoolExecutor(_READERS) as pool:
        problems += [text for text in pool.map(problem, dataset.parts) if text]
    if problems:
        raise AuditError(
            f"the manifest fails its audit ({'; '.join(problems[:5])}); `stl-ray verify` recounts the dataset",
            item=storage.at("MANIFEST.json"), expected=f"{manifest['rows']} rows",
        )  # fmt: skip


def _key(dataset: Dataset, most_decoded: int) -> str:
    """Names the content of a pack: the parts that it is made of, and how."""
    return sha256(canonical_json([dataset.digest, dataset.manifest["parts"], most_decoded]))[:16]


def _make(dataset: Dataset, folder: Path, most_decoded: int, tell: Callable[[int], None]) -> None:
    audited(dataset)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tables = _tables(dataset)
    first = next(tables)
    names = class_names_of(first.schema)
    if not names:
        raise InputError("the dataset names no classes", item=dataset.storage.root)
    height, width = decode(first.column("image")[0].as_py()["bytes"], max_pixels=_PIXELS).shape[:2]
    pixels = dataset.rows * height * width * 3
    decoded = pixels <= most_decoded
    need = pixels if decoded else sum(part["bytes"] for part in dataset.parts)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise StorageError(
            "this node's disk has no room for the images; train.scratch names another",
            item=str(folder.parent),
            expected=f"{need / 2**30:.1f} GiB",
            got=f"{free / 2**30:.1f} GiB free",
        )
    record = {"class_names": names, "decoded": decoded, "height": height, "width": width}
    index = {name: [] for name in _INDEX.names}  # type: ignore[var-annotated]
    place = 0
    with (folder / "images.bin").open("wb") as file, ThreadPoolExecutor(_READERS) as pool:
        for table in _chained(first, tables):
            ids = table.column("id").to_pylist()
            images = [image["bytes"] for image in table.column("image").to_pylist()]
            if decoded:
                images = [array.tobytes() for array in pool.map(_of_size, images, [(height, width)] * len(ids), ids)]
            lengths = [len(image) for image in images]
            index["id"] += ids
            index["label"] += table.column("label").to_pylist()
            index["start"] += (place + np.cumsum([0, *lengths[:-1]])).tolist()
            index["length"] += lengths
            place += sum(lengths)
            file.writelines(images)
            tell(len(index["id"]))
    twice = len(index["id"]) - len(set(index["id"]))
    if twice:
        raise InputError(
            "ids come twice", item=dataset.storage.root, expected="one for each image", got=f"{twice} doubled"
        )
    table = pa.table(index, schema=_INDEX.with_metadata({"pack": json.dumps(record)}))
    with pa.OSFile(str(folder / "index.tmp"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    (folder / "index.tmp").rename(folder / "index.arrow")


def _tables(dataset: Dataset) -> Iterator[pa.Table]:
    """The parts in their order, a few read ahead; their sha256 is checked."""
    with ThreadPoolExecutor(_READERS) as pool:
        parts, ahead = iter(dataset.parts), []
        for part in parts:
            ahead.append(pool.submit(dataset.read, part))
            if len(ahead) == _READERS:
                yield _whole(ahead.pop(0).result(), dataset)
        for future in ahead:
            yield _whole(future.result(), dataset)


def _whole(table: pa.Table, dataset: Dataset) -> pa.Table:
    missing = [name for name in ("id", "image", "label") if name not in table.column_names]
    if missing:
        raise InputError("no labelled images", item=dataset.storage.root, expected=f"columns {', '.join(missing)}")
    return table


def _chained(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from rest


def _of_size(data: bytes, size: tuple[int, int], name: str) -> NDArray[np.uint8]:
    try:
        pixels = decode(data, max_pixels=_PIXELS)
    except ImageError as error:
        raise ImageError(error.message, reason=error.reason, item=name) from error
    if pixels.shape[:2] != size:
        raise InputError(
            "images of one size are needed here; set ingest.size", item=name, expected=size, got=pixels.shape[:2]
        )
    return pixels

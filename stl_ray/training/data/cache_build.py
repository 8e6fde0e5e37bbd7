"""The making of a copy of a dataset's images on a node's disk: from parts to one file, checked on the way."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stl_ray.errors import AuditError, ImageError, InputError, StorageError
from stl_ray.images import class_names_of, decode
from stl_ray.store import Dataset
from stl_ray.store.filesystem import canonical_json
from stl_ray.store.shards import sha256

_READERS = 4  # whole parts in memory at once
_PIXELS = 2**31  # no limit: stored images passed ingest's
_INDEX = pa.schema([("id", pa.string()), ("label", pa.int64()), ("start", pa.int64()), ("length", pa.int64())])


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


def build_cache(dataset: Dataset, folder: Path, most_decoded: int, tell: Callable[[int], None]) -> None:
    """Write a copy's files, the index last; see `stl_ray.training.data.cache.cached_images`."""
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
    try:
        _write(_chained(first, tables), folder, record, dataset.storage.root, tell)
    except OSError as error:  # another process filled the disk meanwhile
        shutil.rmtree(folder, ignore_errors=True)
        raise StorageError(
            f"the images cannot be written to this node's disk ({error}); train.scratch names another",
            item=str(folder.parent),
        ) from error


def _write(
    tables: Iterator[pa.Table], folder: Path, record: dict[str, Any], root: str, tell: Callable[[int], None]
) -> None:
    height, width, decoded = record["height"], record["width"], record["decoded"]
    index = {name: [] for name in _INDEX.names}  # type: ignore[var-annotated]
    offset = 0
    with (folder / "images.bin").open("wb") as file, ThreadPoolExecutor(_READERS) as pool:
        for table in tables:
            ids = table.column("id").to_pylist()
            images = [image["bytes"] for image in table.column("image").to_pylist()]
            if decoded:
                images = [array.tobytes() for array in pool.map(of_size, images, [(height, width)] * len(ids), ids)]
            lengths = [len(image) for image in images]
            index["id"] += ids
            index["label"] += table.column("label").to_pylist()
            index["start"] += (offset + np.cumsum([0, *lengths[:-1]])).tolist()
            index["length"] += lengths
            offset += sum(lengths)
            file.writelines(images)
            tell(len(index["id"]))
    twice = len(index["id"]) - len(set(index["id"]))
    if twice:
        raise InputError("ids come twice", item=root, expected="one for each image", got=f"{twice} doubled")
    table = pa.table(index, schema=_INDEX.with_metadata({"pack": json.dumps(record)}))
    with pa.OSFile(str(folder / "index.tmp"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    (folder / "index.tmp").rename(folder / "index.arrow")


def _tables(dataset: Dataset) -> Iterator[pa.Table]:
    """The parts that have rows, in their order, a few read ahead; their sha256 is checked."""
    with ThreadPoolExecutor(_READERS) as pool:
        ahead: list[Future[pa.Table]] = []
        for part in dataset.parts:
            if not part["rows"]:
                continue
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


def of_size(data: bytes, size: tuple[int, int], name: str) -> NDArray[np.uint8]:
    """The decoded image, (height, width, 3).

    Raises:
        InputError: it has another size.
        ImageError: it cannot be decoded.
    """
    try:
        pixels = decode(data, max_pixels=_PIXELS)
    except ImageError as error:
        raise ImageError(error.message, reason=error.reason, item=name) from error
    if pixels.shape[:2] != size:
        raise InputError(
            "images of one size are needed here; set ingest.size", item=name, expected=size, got=pixels.shape[:2]
        )
    return pixels

"""Order of reading: what rows in a random order cost, and how many classes the batches of some orders have."""

import tempfile
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common.progress import Progress
from benchmarks.training.loader_files import Files
from stl_ray.training.data.batches import permutation
from stl_ray.training.data.cache import cached_images

IMAGENET = 1_281_167
CLASSES = 1000
ROW_GROUP = 256


def measure_reading(files: Files, seconds: float, progress: Progress) -> dict[str, Any]:
    """Encoded images per second, of one thread: in a random order from row groups, and from the copy."""
    progress.tell(f"{files.codec}: rows in a random order from row groups", now=True)
    groups = []
    for part in files.dataset.parts:
        file = pq.ParquetFile(files.dataset.storage.at(part["file"]))
        groups += [(file, group, file.metadata.row_group(group).num_rows) for group in range(file.num_row_groups)]
    places = [(group, row) for group, (_, _, rows) in enumerate(groups) for row in range(rows)]
    order = permutation(len(places), seed=0, item="benchmark", purpose="reading").tolist()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        group, row = places[order[count % len(order)]]
        file, index, _ = groups[group]
        file.read_row_group(index, columns=["image"]).column("image")[row].as_py()
        count += 1
    direct = count / (time.perf_counter() - start)
    copied, bytes_read = time.perf_counter(), 0
    with (
        tempfile.TemporaryDirectory(prefix="loader-") as place,
        cached_images(files.dataset, place, most_decoded=0) as copy,
    ):
        copying = time.perf_counter() - copied
        begin = time.perf_counter()
        with pa.memory_map(str(copy.folder / "index.arrow")) as source:
            index = pa.ipc.open_file(source).read_all()
            starts, lengths = (index.column(name).to_numpy() for name in ("start", "length"))
        encoded = np.memmap(copy.folder / "images.bin", dtype=np.uint8, mode="r")
        for number in order:
            bytes_read += len(encoded[starts[number] : starts[number] + lengths[number]].tobytes())
        mapped = len(order) / (time.perf_counter() - begin)
    rate = bytes_read / copying / 2**20
    return {"codec": files.codec, "row groups": direct, "copy": mapped, "copying, MiB/s": rate}


def classes_per_batch(window: int | None, batch: int = 256) -> float:
    """Mean number of different classes in a batch of ImageNet that lies sorted by class.

    Args:
        window: row groups, drawn at random, whose rows are shuffled together; None: all rows.
        batch: images.
    """
    labels = np.sort(np.arange(IMAGENET) % CLASSES)
    generator = np.random.default_rng(0)
    if window is None:
        order = generator.permutation(IMAGENET)
    else:
        groups = np.array_split(np.arange(IMAGENET), -(-IMAGENET // ROW_GROUP))
        shuffled = generator.permutation(len(groups))
        order = np.concatenate(
            [
                generator.permutation(np.concatenate([groups[g] for g in shuffled[begin : begin + window]]))
                for begin in range(0, len(groups), window)
            ]
        )
    batches = labels[order][: IMAGENET // batch * batch].reshape(-1, batch)
    batches.sort(axis=1)
    return float((1 + (np.diff(batches, axis=1) > 0).sum(axis=1)).mean())

"""A run of many tiny images through the run protocol: what its driver does, phase by phase, and what its workers do.

Drivers and workers are processes of their own. Images are some random bytes each, and nothing is computed; names,
classes, plans, receipts and the manifest are as many and as long as ImageNet's.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa

from benchmarks.scale.phases import Phase, Phases, processes
from stl_ray.images import PIXEL_DIGEST, image_schema
from stl_ray.pipeline.batches import plan_parts
from stl_ray.runtime.concurrency import SHARDS_IN_HAND
from stl_ray.store import Dataset, Layout, PlannedShard, Run, verify
from stl_ray.store.lease import held
from stl_ray.store.plan import read_shard

IMAGENET, CLASSES, SHARD = 1_281_167, 1000, 1000
"""Images and classes of ImageNet's training set, and images of a shard."""

TINY, PHOTOGRAPH = 64, 110_000
"""Bytes of an image; those of ImageNet are JPEGs of the second size on average."""

CLASS_NAMES = [f"n{1_440_764 + 7919 * number:08d}" for number in range(CLASSES)]

WORKERS = 2

_FOLDER, _NEXT = Layout("").ingested("train"), Layout("").projected("identity", "train")
_IDENTITY = {"source": {"format": "folder"}, "class_names": CLASS_NAMES}


def path_of(image: int, classes: int = CLASSES) -> str:
    """The path of an image in a folder of classes; images that follow each other are of different classes."""
    name = CLASS_NAMES[image % classes]
    return f"{name}/{name}_{image // classes:05d}.JPEG"


def folder_plan(images: int) -> Iterator[PlannedShard]:
    """The plan that FolderReader makes of so many images."""
    for number, start in enumerate(range(0, images, SHARD)):
        places = range(start, min(start + SHARD, images))
        source = {"paths": [path_of(n) for n in places], "labels": [n % CLASSES for n in places]}
        yield PlannedShard(number, source, len(places), hashlib.sha256(str(number).encode()).hexdigest())


def begin(root: str, images: int) -> list[Phase]:
    """The first driver, which dies when it has planned."""
    run, phases = Run.open(root, _FOLDER), Phases()
    with held([run.storage]), phases.phase("first driver: plan"):
        run.start(folder_plan(images), identity=_IDENTITY, environment={})
    return phases


def work(root: str, images: int, size: int = TINY) -> float:
    """All shards, by two workers; seconds of the one that took longer."""
    numbers = range(len(range(0, images, SHARD)))
    with processes(WORKERS) as pool:
        return max(pool.map(partial(_work, root, size), [numbers[place::WORKERS] for place in range(WORKERS)]))


def _work(root: str, size: int, numbers: Sequence[int]) -> float:
    start = time.perf_counter()
    make_shards(Run.open(root, _FOLDER), numbers, partial(images_of, size=size))
    return time.perf_counter() - start


def make_shards(run: Run, numbers: Sequence[int], table_of: Callable[[PlannedShard], pa.Table]) -> None:
    """Take shards and publish them, as an actor does, with as many in hand."""
    with ThreadPoolExecutor(SHARDS_IN_HAND) as pool:
        list(pool.map(partial(_make_shard, run, table_of), numbers))


def _make_shard(run: Run, table_of: Callable[[PlannedShard], pa.Table], number: int) -> None:
    start = time.monotonic()
    run.attempts(number, "benchmark")
    run.attempt(number, {"driver": "benchmark", "node": "here"})
    shard = read_shard(run.storage, number)
    table = table_of(shard)
    run.publish(shard, table, [], seconds=time.monotonic() - start, attempt=1, environment={"host": "here"})


def images_of(shard: PlannedShard, size: int = TINY) -> pa.Table:
    """The rows of a shard: images of `size` bytes that no codec makes smaller."""
    paths = shard.source["paths"]
    seed = int.from_bytes(hashlib.sha256(paths[0].encode()).digest()[:8], "little")
    data = np.random.default_rng(seed).bytes(size * len(paths))
    images = [{"bytes": data[n * size : (n + 1) * size], "path": path} for n, path in enumerate(paths)]
    digests = [image["bytes"][:16] for image in images]
    columns = {"id": paths, "image": images, "label": shard.source["labels"], PIXEL_DIGEST: digests}
    return pa.Table.from_pydict(columns, schema=image_schema("image", CLASS_NAMES))


def finish(root: str, images: int) -> list[Phase]:
    """The second driver, which finds every shard done; and the next stage's, which plans from the manifest."""
    run, phases = Run.open(root, _FOLDER), Phases()
    with held([run.storage]):
        with phases.phase("plan again, compare"):
            run.start(folder_plan(images), identity=_IDENTITY, environment={})
        with phases.phase("what is left to do"):
            left = run.pending()
        with phases.phase("finish: receipts, ids, manifest"):
            manifest = run.finish(max_quarantined=0)
    if left or manifest["rows"] != images:
        raise RuntimeError(f"{len(left)} shards left, {manifest['rows']} rows")
    with phases.phase("plan of the next stage"):
        dataset = Dataset.open(Layout(root).uri(_FOLDER))
        Run.open(root, _NEXT).start(plan_parts(dataset), identity={"input": dataset.digest}, environment={})
    return phases.summed("next driver, in all")


def audit(root: str, images: int) -> list[Phase]:
    """`stl-ray verify`."""
    phases = Phases()
    with phases.phase("stl-ray verify"):
        counted = verify(Layout(root).uri(_FOLDER))
    if counted["rows"] != images:
        raise RuntimeError(f"{counted['rows']} rows")
    return phases

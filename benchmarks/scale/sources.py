"""Sources of as many images as ImageNet has, on a disk or in a bucket, and what it takes to plan over them.

Planning looks at names, sizes and headers only, so images on a disk are empty or nearly so. In a bucket, what is in
between the headers counts: there members of tars are as large as photographs.
"""

import io
import os
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.scale.phases import Phase, Phases
from benchmarks.scale.protocol import CLASS_NAMES, CLASSES, PHOTOGRAPH, SHARD, path_of
from stl_ray.config import Source
from stl_ray.images import PIXEL_DIGEST, image_schema
from stl_ray.images.readers import open_reader
from stl_ray.images.readers.fetching import LISTINGS
from stl_ray.pipeline.ingest import planned_shards
from stl_ray.store import Run, Storage
from stl_ray.store.shards import ids_of

Kind = Literal["folder", "tar", "parquet"]
KINDS: tuple[Kind, ...] = ("folder", "tar", "parquet")

_MADE = "made.txt"
_UPLOADS = 16
_ROWS = 10_000  # of a Parquet file


def make(kind: Kind, place: str, images: int) -> None:
    """Make a source of a kind, unless it is there."""
    storage = Storage.open(place)
    if not storage.exists(_MADE):
        _MAKERS[kind](storage, images)
        storage.write(_MADE, b"")


def _make_folder(storage: Storage, images: int) -> None:
    """A folder of classes; in a bucket, of fewer where there are few images, since a listing's pages hold a thousand."""
    if storage.folder is None:
        paths = [path_of(number, min(CLASSES, -(-images // SHARD))) for number in range(images)]
        with ThreadPoolExecutor(_UPLOADS) as pool:
            list(pool.map(lambda path: storage.write(path, b""), paths))
        return
    for name in CLASS_NAMES:
        (storage.folder / name).mkdir(parents=True)
    for number in range(images):
        (storage.folder / path_of(number)).touch()  # a Storage would fsync each


def _make_tars(storage: Storage, images: int) -> None:
    """Tars of a thousand images, each an `n.JPEG` beside its `n.cls`, in the manner of WebDataset."""
    size = 0 if storage.folder is not None else PHOTOGRAPH
    for start in range(0, images, SHARD):
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as tar:
            for number in range(start, min(start + SHARD, images)):
                for ending, data in (("JPEG", os.urandom(size)), ("cls", str(number % CLASSES).encode())):
                    member = tarfile.TarInfo(f"{number:08d}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        storage.write(f"train-{start // SHARD:05d}.tar", sink.getvalue())


def _make_parquet(storage: Storage, images: int) -> None:
    """Parquet files of ten thousand rows, with ids."""
    schema = image_schema("image", CLASS_NAMES)
    for start in range(0, images, _ROWS):
        places = range(start, min(start + _ROWS, images))
        paths = [path_of(number) for number in places]
        columns = {
            "id": paths,
            "image": [{"bytes": b"", "path": path} for path in paths],
            "label": [number % CLASSES for number in places],
            PIXEL_DIGEST: [b""] * len(paths),
        }
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pydict(columns, schema=schema), sink, row_group_size=SHARD)
        storage.write(f"train-{start // _ROWS:05d}.parquet", sink.getvalue())


_MAKERS: dict[str, Callable[[Storage, int], None]] = {
    "folder": _make_folder,
    "tar": _make_tars,
    "parquet": _make_parquet,
}


def plan(kind: Kind, place: str, images: int, root: str) -> Phase:
    """Plan a run of ingest, in a folder of its own."""
    phases, run = Phases(), Run.open(root, f"ingest/{kind}-{images}")
    with phases.phase(kind):
        reader = open_reader(Source(format=kind, path=place), split="train")
        run.start(planned_shards(reader.plan(SHARD)), identity={"class_names": reader.class_names}, environment={})
    if run.plan().rows.sum() != images:
        raise RuntimeError(f"{run.plan().rows.sum()} images planned")
    return phases[0]


def bare(kind: Kind, place: str) -> Phase:
    """The least that any plan has to do: list what there is, or read all headers, or all ids; and keep nothing."""
    phases, storage = Phases(), Storage.open(place)
    with phases.phase(kind):
        _BARE[kind](storage)
    return phases[0]


def _list(storage: Storage) -> None:
    if storage.folder is None:
        for _ in storage.walk():
            pass
        return
    for folder in os.scandir(storage.folder):
        for entry in os.scandir(folder) if folder.is_dir() else ():
            entry.stat()


def _headers(storage: Storage) -> None:
    names = [name for name in storage.names() if name.endswith(".tar")]
    if storage.folder is None:
        # The bytes of all, by as many requests at once as planning makes.
        with ThreadPoolExecutor(LISTINGS) as pool:
            for _ in pool.map(lambda name: len(storage.read(name)), names):
                pass
        return
    for name in names:
        with tarfile.open(storage.folder / name, "r:") as tar:
            while tar.next() is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep all of them


def _ids(storage: Storage) -> None:
    for name in storage.names():
        if name.endswith(".parquet"):
            ids_of(storage, name)


_BARE = {"folder": _list, "tar": _headers, "parquet": _ids}

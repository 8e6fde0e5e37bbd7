"""The same projection without a runner: a loop over the same files, in bare processes of one thread.

    read a part -> decode -> T(x) -> 8 bits -> encode -> write a part

No Ray, no receipts, no digests, no fsync; nothing overlaps.
"""

import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.common.processes import fresh_processes
from benchmarks.runner.processes import Watch
from benchmarks.runner.rates import Done, Timeline
from stl_ray.evaluation.batches import BATCH
from stl_ray.images import decode, encode_png, image_schema, to_tensor, to_uint8
from stl_ray.pipeline.batches import STORED_PIXELS
from stl_ray.space import QuasiNaturalSpace

SCHEMA = image_schema("image", None)


def purify(table: pa.Table, space: QuasiNaturalSpace) -> pa.Table:
    """The rows of a table of images of one size, projected, in the same order."""
    ids, images, labels = (table.column(name).to_pylist() for name in ("id", "image", "label"))
    rows = []
    for start in range(0, len(ids), BATCH):
        batch = to_tensor([decode(image["bytes"], max_pixels=STORED_PIXELS) for image in images[start : start + BATCH]])
        for place, image in enumerate(to_uint8(space.project(batch).images), start):
            encoded = {"bytes": encode_png(image), "path": images[place]["path"]}
            rows.append({"id": ids[place], "image": encoded, "label": labels[place]})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def loop(parts: Sequence[str], space: QuasiNaturalSpace, folder: Path) -> list[Done]:
    """Project files into a folder; a piece is a file."""
    done = []
    for part in parts:
        table = purify(pq.read_table(part), space)
        pq.write_table(table, folder / Path(part).name, compression="zstd", row_group_size=256)
        done.append(Done(str(os.getpid()), time.time(), table.num_rows))
    return done


def measure(parts: Sequence[str], space: str, folder: Path, processes: int) -> Timeline:
    """Deal the files out to some processes, which begin together once all of them are ready."""
    folder.mkdir(parents=True)
    context = fresh_processes(__name__)
    pipes = [context.Pipe() for _ in range(processes)]
    arguments = [(theirs, parts[number::processes], space, folder) for number, (_, theirs) in enumerate(pipes)]
    children = [context.Process(target=_serve, args=own, daemon=True) for own in arguments]
    for child in children:
        child.start()
    ends = [end for end, _ in pipes]
    for end in ends:
        end.recv()
    with Watch() as watch:
        for end in ends:
            end.send(None)
        done = [piece for end in ends for piece in end.recv()]
    for child in children:
        child.join()
    return watch.timeline(done, 1)


def _serve(connection: Connection, parts: Sequence[str], uri: str, folder: Path) -> None:
    torch.set_num_threads(1)
    space = QuasiNaturalSpace.load(uri)
    purify(pq.read_table(parts[0]).slice(0, 2), space)  # libraries that load themselves at first use
    connection.send(None)
    connection.recv()
    connection.send(loop(parts, space, folder))

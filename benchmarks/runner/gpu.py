"""How fast one actor projects JPEG shards from a disk on a GPU, and how long the GPU waits for it.

    python -m benchmarks.runner.gpu --output benchmarks/results/runner-gpu.md

Run it from the repository's root on an idle machine; `--help` says the rest. It needs neither Ray nor an installed
stl-ray: the shards go through the work, the turns and the run protocol of an actor, in this process.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from PIL import Image

from benchmarks.common.command import command_parser
from benchmarks.common.images import LMBDA, dictionary_for
from benchmarks.common.pages import command_line, publish, table, three_digits
from benchmarks.runner.processes import Watch
from benchmarks.runner.rates import Done, Timeline
from benchmarks.runner.workload import SPLIT, ingest, photographs
from stl_ray.defenses import Transformation, make_defense
from stl_ray.evaluation.batches import batch_size
from stl_ray.images import decode, encode_png, to_tensor, to_uint8
from stl_ray.pipeline.batches import STORED_PIXELS, plan_parts
from stl_ray.pipeline.defenses import transformation
from stl_ray.pipeline.purify import purify_table
from stl_ray.runtime.concurrency import COMPUTE, SHARDS_IN_HAND, bind, bind_thread
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.space import QuasiNaturalSpace
from stl_ray.store import Dataset, Layout, PlannedShard, Run, Storage
from stl_ray.store.plan import read_shard

DIFFERENT = 40
"""Different images; they come again under other ids."""

_QUALITY = 90

_EXAMPLES = """
what it does:
  shards      JPEG files of photographs are put into shards below --folder, and projected as an actor does it, with three
              shards in hand; images a second, and the share of the time in which nothing is solved
  solver      the same batches again and again, from the GPU's own memory: what the shards could reach
  codecs      a thread's time to decode a JPEG and to encode a PNG: how many cores feed that solver

examples:
  python -m benchmarks.runner.gpu --folder /mnt/disk --images 20000 --threads 15
      shards on a certain disk; as many threads as the actor would have CPUs
  python -m benchmarks.runner.gpu --smoke
      tiny images on the CPU: shows that it runs, and no rate of any use
"""


@dataclass
class Work(TableTask):
    """What the job `project` does with a shard, on a dataset at hand."""

    dataset: Dataset
    defense: Transformation
    device: str

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The clean images of the shard."""
        return self.dataset.read(shard.source)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """The images, purified."""
        return purify_table(self.defense, table, seed=0, exclude_self=False, device=self.device)


@dataclass(frozen=True)
class Found:
    """What was measured.

    Attributes:
        timeline: a piece is a shard that has its receipt.
        waits: share of the time from the first to the last solve in which nothing was solved.
        alone: images a second of the solver, whose images are there already.
        decode: seconds of a thread for an image.
        encode: seconds of a thread for an image.
    """

    timeline: Timeline
    waits: float
    alone: float
    decode: float
    encode: float


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    if options.smoke:
        options.size, options.images, options.shard_size, options.threads = 32, 24, 4, 2
    elif not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device; --smoke runs tiny images on the CPU")
    device = "cpu" if options.smoke else "cuda"
    bind(options.threads)
    with tempfile.TemporaryDirectory(prefix="stl-ray-", dir=options.folder) as name:
        found, dictionary = _measure(Path(name), device, options)
    page = _page(found, dictionary, device, options, command_line("benchmarks.runner.gpu", given))
    publish(page, options.output)
    return 0


def _measure(root: Path, device: str, options: argparse.Namespace) -> tuple[Found, str]:
    images = photographs(options.size, DIFFERENT)
    jpegs = [_jpeg(image) for image in images]
    dictionary, source = dictionary_for(options.size, options.data, None, to_tensor(images))
    space = QuasiNaturalSpace.from_dictionary(dictionary, LMBDA)
    defense = transformation(make_defense("stl", {}, {"space": space.to(device), "solver": "auto"}))
    pixels = to_tensor(images).to(device)
    batch = pixels.repeat(-(-batch_size(options.size, options.size, device) // len(pixels)), 1, 1, 1)
    alone = statistics.median(
        len(batch) / _seconds(lambda: defense.purify(batch, seeds=range(len(batch))).status)
        for _ in range(options.turns)
    )
    ingest(root, jpegs, options.images // options.shard_size, options.shard_size)
    layout = Layout(str(root))
    dataset = Dataset.open(layout.uri(layout.ingested(SPLIT)))
    run = Run(Storage.open(str(root)).below("project/stl"), "project", "stl")
    run.start(plan_parts(dataset), identity={}, environment={})
    with Watch() as watch:
        done = project(run, Work(dataset, defense, device))
    usage = COMPUTE.usage()
    found = Found(
        timeline=watch.timeline(done, SHARDS_IN_HAND),
        waits=1 - usage.busy / usage.span,
        alone=alone,
        decode=_each(jpegs, lambda data: decode(data, max_pixels=STORED_PIXELS)),
        encode=_each(to_uint8(defense.purify(pixels, seeds=range(len(pixels))).images), encode_png),
    )
    return found, source


def project(run: Run, work: Work) -> list[Done]:
    """Make every shard of a run as an actor does; what was done when."""

    def make(number: int) -> Done:
        bind_thread()
        with COMPUTE.shard():
            shard = read_shard(run.storage, number)
            output = work(run.name, shard)
            receipt = run.publish(
                shard, output.table.combine_chunks(), output.quarantine, seconds=0, attempt=1, environment={}
            )
        return Done(str(os.getpid()), time.time(), receipt.rows)

    with ThreadPoolExecutor(SHARDS_IN_HAND) as hands:
        return list(hands.map(make, range(len(run.plan().rows))))


def _jpeg(image: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _each(items: Iterable[Any], call: Callable[[Any], object]) -> float:
    return statistics.median(_seconds(partial(call, item)) for item in items)


def _page(found: Found, dictionary: str, device: str, options: argparse.Namespace, command: str) -> str:
    run = found.timeline
    name = "no GPU, no rate of any use" if device == "cpu" else torch.cuda.get_device_name(device)
    rates = table(
        ("Size", "Images/s, steady", "Images/s, whole", "GPU waits", "Solver alone", "Of that", "Cores used", "Decode, ms",
         "Encode, ms", "Cores to keep up"),
        [(
            f"{options.size}", three_digits(run.steady), three_digits(run.whole), f"{found.waits:.1%}", three_digits(found.alone),
            f"{run.steady / found.alone:.2f}", f"{run.workers:.2f}", f"{found.decode * 1e3:.2f}",
            f"{found.encode * 1e3:.2f}", f"{found.alone * (found.decode + found.encode):.1f}",
        )],
    )  # fmt: skip
    blocks = [
        f"# JPEG shards through one actor's hands: {name}",
        f"    {command}",
        f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores, {options.threads} threads. "
        f"{run.images} JPEG images (quality {_QUALITY}, {DIFFERENT} different ones) of {options.size} px in shards of "
        f"{options.shard_size}, PNG out; {SHARDS_IN_HAND} shards in hand. Dictionary: {dictionary}.",
        rates,
        "Steady: from the first receipt to the last one after which as many shards were in hand. GPU waits: share of the time, "
        "from the first solve to the last, in which nothing was solved. Solver alone: batches of the same images that are on "
        "the device already. Decode and encode: of a thread, for an image; so many cores does it take, beside what reads, "
        "writes and hashes, to feed the solver alone.",
    ]
    return "\n\n".join(blocks) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.runner.gpu",
        __doc__,
        _EXAMPLES,
        data="with the authors' reference/dictionaries; default $STL_RAY_DATA, then ../shared/data, else patches of the "
        "images serve as a dictionary",
    )
    parser.add_argument("--smoke", action="store_true", help="24 images of 32 pixels on the CPU")
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS", help="(224)")
    parser.add_argument("--images", type=int, default=10_000, metavar="N", help="in all (10000)")
    parser.add_argument("--shard-size", type=int, default=500, metavar="N", help="images in a shard (500)")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), metavar="N", help="as ray.cpus_per_actor; default all cores"
    )
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="times that the solver is timed alone (5)")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="FOLDER",
        help="on the disk that the shards are to lie on; default that for temporary files",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

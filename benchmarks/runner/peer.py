"""The same projection as three calls of Ray Data: read_parquet, map_batches, write_parquet.

    python -m benchmarks.runner.peer SPACE FILES OUTPUT LOG ACTORS BATCH

does it on the Ray at RAY_ADDRESS; the benchmark kills that process, or the workers that it has.
"""

import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy, DataContext

from benchmarks.runner.bare import purify
from benchmarks.runner.processes import Watch
from benchmarks.runner.rates import Done, Timeline
from stl_ray.space import QuasiNaturalSpace


class Purify:
    """The bare loop's function on a batch; it notes down when a batch was done, and by whom.

    Args:
        space: where the space is.
        log: a folder with a file for each actor.
    """

    def __init__(self, space: str, log: str) -> None:
        torch.set_num_threads(1)
        self._space = QuasiNaturalSpace.load(space)
        self._log = Path(log) / str(os.getpid())

    def __call__(self, table: pa.Table) -> pa.Table:
        """A batch of rows, projected."""
        purified = purify(table, self._space)
        with self._log.open("a") as file:
            print(time.time(), table.num_rows, file=file)
        return purified


def project(space: str, files: Sequence[str], output: str, log: str, actors: int, batch: int) -> None:
    """Project Parquet files into a folder, on the Ray that is running."""
    Path(log).mkdir(parents=True, exist_ok=True)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    projected = ray.data.read_parquet(list(files)).map_batches(
        Purify,
        fn_constructor_args=(space, log),
        batch_size=batch,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=actors),
        num_cpus=1,
    )
    projected.write_parquet(output, compression="zstd")


def measure(space: str, files: Sequence[str], folder: Path, actors: int, batch: int) -> Timeline:
    """Project files below a folder that does not exist yet; a piece is a batch, done when its function returns."""
    with Watch() as watch:
        project(space, files, str(folder / "output"), str(folder / "log"), actors, batch)
    return watch.timeline(done_in(folder / "log"), 1)


def done_in(log: Path) -> list[Done]:
    """What the actors noted down so far; the last line of one that was killed may be cut off."""
    return [
        Done(file.name, float(line.split()[0]), int(line.split()[1]))
        for file in (log.iterdir() if log.is_dir() else ())
        for line in file.read_text().splitlines()
        if len(line.split()) == 2
    ]


def main(arguments: Sequence[str]) -> int:
    """What the module's docstring says; FILES is a file with one path a line."""
    space, files, output, log, actors, batch = arguments
    ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level=logging.ERROR)
    project(space, Path(files).read_text().splitlines(), output, log, int(actors), int(batch))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from skimage.data import astronaut

from stl_ray.config import Experiment
from stl_ray.errors import QuarantineReason
from stl_ray.images import encode_png, image_schema
from stl_ray.runtime.shard_runner import drafts_of
from stl_ray.store import Dataset, Layout, PlannedShard, QuarantinedRow, Run


@pytest.fixture
def experiment_of(tmp_path):
    """Makes an experiment below the test's folder from sections given as keywords."""

    def make(**sections) -> Experiment:
        photographs = {"format": "photographs", "limit": 20}
        values = {
            "name": "test",
            "root": str(tmp_path / "root"),
            "ingest": {"train": photographs, "test": photographs},
            "classifiers": [{"name": "vanilla", "architecture": "small_cnn"}],
            **sections,
        }
        return Experiment.model_validate(values, strict=False)

    return make


@pytest.fixture
def folder_of(tmp_path):
    """Makes a class folder from {name: bytes}; one class `a`, and `b` with one sound image."""

    def make(files: dict[str, bytes]) -> Path:
        for name, data in files.items():
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return tmp_path / "images"

    return make


@pytest.fixture
def crops():
    """Makes windows of a photograph, uint8 (side, side, 3)."""

    def make(count: int, side: int = 24) -> list[np.ndarray]:
        corners = np.random.default_rng(0).integers(0, 200, (count, 2))
        return [astronaut()[top : top + side, left : left + side] for top, left in corners]

    return make


@pytest.fixture
def image_tables():
    """Makes image records id-0, id-1, ... in tables of the given sizes; bytes stand for themselves."""

    def make(images: list, *sizes: int) -> list[pa.Table]:
        encoded = [image if isinstance(image, bytes) else encode_png(image) for image in images]
        rows = [
            {"id": f"id-{n}", "image": {"bytes": image, "path": f"{n}.png"}, "label": n % 2}
            for n, image in enumerate(encoded)
        ]
        table = pa.Table.from_pylist(rows, schema=image_schema("image", ["a", "b"]))
        return [table.slice(sum(sizes[:n]), size) for n, size in enumerate(sizes)]

    return make


@pytest.fixture
def finished_run():
    """Makes a finished run with a part for each table."""

    def make(experiment: Experiment, folder: str, *tables: pa.Table) -> Dataset:
        run = Run.open(experiment.root, folder)
        plan = [PlannedShard(number=n, source={}, rows=table.num_rows, digest=str(n)) for n, table in enumerate(tables)]
        run.start(plan, identity={}, environment={})
        for shard, table in zip(plan, tables, strict=True):
            run.publish(shard, table, [], seconds=0, attempt=1, environment={})
        run.finish(max_quarantined=0)
        return Dataset.open(Layout(experiment.root).uri(folder))

    return make


@pytest.fixture
def run_here():
    """Does what the shard runner does, in this process; by folder, the one id that a run sets aside."""

    def run_all(job, experiment: Experiment, **set_aside: str) -> None:
        for planned, draft in zip(job.runs, drafts_of([job], experiment), strict=True):
            draft.start({name: make(None) for name, make in planned.made.items()}, environment={})
        work = job.make_task()
        for planned in job.runs:
            run = Run.open(experiment.root, planned.folder)
            for shard in planned.plan:
                output = work(planned.folder, shard)
                lost = pc.equal(output.table["id"], set_aside.get(planned.folder, ""))
                rows = [
                    QuarantinedRow(name, QuarantineReason.KILLS_WORKER, "", b"")
                    for name in output.table.filter(lost)["id"].to_pylist()
                ]
                table = output.table.filter(pc.invert(lost))
                run.publish(shard, table, [*output.quarantine, *rows], seconds=0, attempt=1, environment={})
            run.finish(max_quarantined=1)

    return run_all

"""S3 that is away, keys that are revoked, two drivers, late writers: nothing is lost, and who is refused is told why."""

import hashlib
import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from stl_ray.cli import main
from stl_ray.config import load_experiment
from stl_ray.pipeline import ingest
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob, run_shards
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.store import Dataset, PlannedShard, Storage, verify
from stl_ray.store.runs import Run
from stl_ray.store.sweep import sweep

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.faults]

# Many small shards: time enough to disturb, and more than may fail one after the other.
IMAGES, SHARD = 400, 5
MANY = {
    "ingest": {
        "train": {"format": "photographs", "limit": IMAGES},
        "test": {"format": "photographs", "limit": 5},
        "shard_size": SHARD,
    }
}
TRAIN = "ingest/train"


@pytest.fixture(scope="module")
def undisturbed(local_ray, write_config, tmp_path_factory) -> list:
    """The manifest's parts of MANY on a disk, where nobody disturbs it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert main(["ingest", write_config(folder, **MANY)]) == 0
    return Dataset.open(str(folder / "root" / TRAIN)).manifest["parts"]


def _sound(root: str, parts: list) -> None:
    counts = verify(f"{root}/{TRAIN}")
    assert (counts["rows"], counts["quarantined"], counts["orphans"]) == (sum(part["rows"] for part in parts), 0, 0)
    assert Dataset.open(f"{root}/{TRAIN}").manifest["parts"] == parts


def _receipts(storage: Storage) -> dict[str, bytes]:
    return {name: storage.read(f"{TRAIN}/done/{name}") for name in storage.names(f"{TRAIN}/done")}


def _wait_for(receipts: int, storage: Storage, driver) -> None:
    deadline = time.monotonic() + 120
    while len(storage.names(f"{TRAIN}/done")) < receipts:
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def _everything(storage: Storage) -> Iterator[bytes]:
    for file in storage.walk():
        yield file.path.encode()
        yield storage.read(file.path)


@pytest.fixture
def photographs(s3) -> str:
    """A folder in a bucket, with 120 images of train and 3 of test."""
    storage, generator = Storage.open(f"{s3}/photographs"), np.random.default_rng(0)

    def put(item):
        number, pixels = item
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        split = "train" if number < 120 else "test"
        storage.write(f"{split}/class-{number % 3}/{number:03d}.png", buffer.getvalue())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, enumerate(generator.integers(0, 256, (123, 64, 64, 3), dtype=np.uint8))))
    return storage.root


def test_invariant_a_server_that_is_away_for_20_s_costs_nothing(
    local_ray, ceph, s3, photographs, write_config, tmp_path
):
    """Longer than a lease of which nobody sees a beat is another's."""
    sources = {split: {"format": "folder", "path": f"{photographs}/{split}"} for split in ("train", "test")}
    keys = {"ingest": {**sources, "shard_size": 3}}
    roots = {name: f"{s3}/{name}" for name in ("calm", "disturbed")}
    ingest.run(load_experiment(write_config(tmp_path / "calm", root=roots["calm"], **keys)))
    before, storage = [], Storage.open(roots["disturbed"])

    def away():
        while len(storage.names(f"{TRAIN}/done")) < 5:
            time.sleep(0.02)
        ceph.kill()
        time.sleep(20)
        ceph.restart()
        before.append(len(storage.names(f"{TRAIN}/done")))

    outside = threading.Thread(target=away)
    outside.start()
    ingest.run(load_experiment(write_config(tmp_path / "disturbed", root=roots["disturbed"], **keys)))
    outside.join()
    assert 5 <= before[0] < 40
    _sound(roots["disturbed"], Dataset.open(f"{roots['calm']}/{TRAIN}").manifest["parts"])
    assert [name for name in storage.names(TRAIN) if "lease" in name] == []


def test_invariant_a_job_whose_key_is_revoked_fails_then_goes_on_with_another(
    ceph, s3, undisturbed, alone, write_config, tmp_path
):
    secrets = ["the-secret-that-is-revoked", "the-secret-that-is-good"]
    ceph.add_key("revoked", secrets[0])
    root = f"{s3}/run"
    config, storage = write_config(tmp_path, root=root, **MANY), Storage.open(root)
    environment = {**ceph.environment(), "AWS_ACCESS_KEY_ID": "revoked", "AWS_SECRET_ACCESS_KEY": secrets[0]}
    driver = alone.start("ingest", config, environment=environment)
    _wait_for(5, storage, driver)
    ceph.revoke("revoked")
    assert driver.wait(timeout=120) == 1, alone.said()
    failed = r"IncompleteRunError: ingest: (\d+) shards failed, 25 one after the other, so that no more were tried:\n  ingest/"
    assert re.search(failed, alone.said()), alone.said()
    assert "key is not known there" in alone.said()
    kept = _receipts(storage)
    assert 5 <= len(kept) < IMAGES // SHARD

    ceph.add_key("good", secrets[1])
    environment |= {"AWS_ACCESS_KEY_ID": "good", "AWS_SECRET_ACCESS_KEY": secrets[1]}
    assert alone.run("ingest", config, environment=environment) == 0, alone.said()
    _sound(root, undisturbed)
    assert kept.items() <= _receipts(storage).items()

    # What was said and written, by us and by Ray, in both sessions and for both keys.
    assert len(alone.sessions()) == 2
    written = [alone.written(), *_everything(Storage.open(s3))]
    assert any(b"key is not known there" in data for data in written)
    for secret in secrets:
        assert not any(secret.encode() in data for data in written), secret


def test_refuses_a_second_driver_and_says_who_the_first_is(local_ray, s3, undisturbed, write_config, tmp_path, capsys):
    root = f"{s3}/run"
    config, storage = write_config(tmp_path, root=root, **MANY), Storage.open(root)
    command = [sys.executable, "-m", "stl_ray.cli", "ingest", config]
    first = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": local_ray}, stderr=subprocess.PIPE)
    _wait_for(1, storage, first)
    assert main(["ingest", config]) == 1
    assert first.poll() is None
    said = capsys.readouterr().err
    assert f"RunBusyError: {root}/ingest/" in said
    assert f"another driver is at work here: process {first.pid} on " in said
    _, errors = first.communicate(timeout=200)
    assert first.returncode == 0, errors.decode()
    _sound(root, undisturbed)


class _Late(TableTask):
    """Ids and bytes; another writer, with other bytes, is late for shard 1 while shard 5 is made."""

    def __init__(self, run: Run, plan: list[PlannedShard]) -> None:
        self.run, self.plan = run, plan

    def table(self, run, shard):
        ids = [f"id-{shard.number}-{row}" for row in range(shard.rows)]
        images = [{"bytes": hashlib.sha256(name.encode()).digest()} for name in ids]
        return pa.table({"id": ids, "image": images})

    def make(self, run, shard, table):
        if shard.number == 5:
            while 1 not in self.run.done():
                time.sleep(0.05)
            self.late(self.plan[1])
        return ShardOutput(table)

    def late(self, shard: PlannedShard):
        """Publish a shard that another has published."""
        table = self.table("", shard)
        others = pa.array([{"bytes": b"of another kind of device"}] * shard.rows)
        table = table.set_column(1, "image", others)
        return self.run.publish(shard, table, [], seconds=9.0, attempt=1, environment={"host": "late"})


def test_invariant_the_first_receipt_wins_and_late_parts_are_swept(local_ray, s3, write_config, tmp_path):
    experiment = load_experiment(write_config(tmp_path, root=s3))
    plan = [PlannedShard(number=n, source={}, rows=4, digest=str(n)) for n in range(6)]
    storage = Storage.open(f"{s3}/stage/name")
    run = Run(storage, "stage", "name")
    job = ShardJob("stage", [PlannedRun("stage/name", plan, {})], lambda: _Late(run, plan))
    (manifest,) = run_shards(job, experiment)
    counted = verify(storage.root)
    assert (counted["rows"], counted["parts"], counted["orphans"]) == (24, 6, 1)

    first = run.receipt(3)
    assert _Late(run, plan).late(plan[3]) == first
    assert first.part == manifest["parts"][3]["file"]
    assert verify(storage.root) == {**counted, "orphans": 2}
    named = {part["file"] for part in manifest["parts"]}
    orphans = [f"parts/{name}" for name in storage.names("parts") if f"parts/{name}" not in named]
    assert [name[:16] for name in orphans] == ["parts/part-00001", "parts/part-00003"]
    found = sweep(Storage.open(s3), "stage/name", delete=False)
    assert list(found.files) == orphans and found.bytes == sum(storage.size(name) for name in orphans)
    assert sweep(Storage.open(s3), "stage/name", delete=True) == found
    assert verify(storage.root) == {**counted, "orphans": 0}
    assert {f"parts/{name}" for name in storage.names("parts")} == named


@pytest.mark.parametrize(
    ("bucket", "changed", "message"),
    [
        ("no-such-bucket", {}, "there is no such bucket"),
        (None, {"AWS_SECRET_ACCESS_KEY": "hidden-and-wrong"}, "the secret key is wrong"),
        (None, {"AWS_ACCESS_KEY_ID": "hidden-and-unknown"}, "the access key is not known there"),
    ],
)
def test_refuses_a_storage_that_cannot_be_written_to_before_any_work(
    ceph, s3, alone, write_config, tmp_path, bucket, changed, message
):
    root = f"s3://{bucket}/run" if bucket else f"{s3}/run"
    config = write_config(tmp_path, root=root)
    assert alone.run("ingest", config, environment={**ceph.environment(), **changed}) == 1
    assert f"StorageError: {root}/.preflight-" in alone.said() and message in alone.said()
    assert "Traceback" not in alone.said()
    assert alone.sessions() == []  # not even Ray was started
    assert Storage.open(s3).names() == []
    for secret in ("hidden", ceph.secret_key):
        assert secret not in alone.said()

import fcntl
import json
import pickle
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from stl_ray.errors import AuditError, InputError, StorageError
from stl_ray.images import encode_png, image_schema
from stl_ray.store import Dataset, PlannedShard, Run, Storage
from stl_ray.training import audited, cached_images

SIZES = (0, 20, 5, 17)  # a part without rows: all of its images were set aside


@pytest.fixture
def dataset_of(tmp_path):
    """Makes a finished dataset of random images; (dataset, pixels)."""

    def make(sides=(16,) * 42, ids=None, names=("cat", "dog")) -> tuple[Dataset, list[np.ndarray]]:
        generator = np.random.default_rng(0)
        images = [generator.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in sides]
        rows = [
            {
                "id": ids[n] if ids else f"id-{n}",
                "image": {"bytes": encode_png(image), "path": None},
                "label": n % len(names or "ab"),
            }
            for n, image in enumerate(images)
        ]
        table = pa.Table.from_pylist(rows, schema=image_schema("image", names))
        run = Run(Storage.open(str(tmp_path / "run")), "ingest", "train")
        plan = [PlannedShard(n, {}, size, str(n)) for n, size in enumerate(SIZES)]
        run.start(plan, identity={}, environment={})
        for shard in plan:
            part = table.slice(sum(SIZES[: shard.number]), shard.rows)
            run.publish(shard, part, [], seconds=0, attempt=1, environment={})
        if ids is None:
            run.finish(max_quarantined=0)
        return Dataset.open(str(tmp_path / "run")), images

    return make


@pytest.mark.parametrize("most_decoded", [2**20, 1000], ids=["decoded", "as stored"])
def test_roundtrip_every_image_at_its_place(most_decoded, dataset_of, tmp_path):
    dataset, images = dataset_of()
    told: list[int] = []
    with cached_images(dataset, str(tmp_path / "scratch"), most_decoded, told.append) as cached:
        assert told == [20, 25, 42]
        assert cached.decoded == (most_decoded > 1000)
        assert (len(cached), cached.class_names, cached.size) == (42, ["cat", "dog"], (16, 16))
        assert cached.labels.tolist() == [n % 2 for n in range(42)]
        indices = [41, 0, 19, 20, 24, 25, 0]
        assert cached.ids(indices) == [f"id-{number}" for number in indices]
        for got in (cached.pixels(indices), pickle.loads(pickle.dumps(cached)).pixels(indices)):
            assert torch.equal(got, torch.from_numpy(np.stack([images[p] for p in indices])).permute(0, 3, 1, 2))
    assert sorted(path.suffix for path in (tmp_path / "scratch").iterdir()) == [".lock", ".making"]


def test_invariant_two_that_share_it_make_it_once_and_the_last_removes_it(dataset_of, tmp_path):
    dataset, _ = dataset_of()
    with cached_images(dataset, str(tmp_path)) as first:
        stamp = (first.folder / "index.arrow").stat().st_mtime_ns
        with cached_images(dataset, str(tmp_path)) as second:
            assert second.folder == first.folder
            assert (second.folder / "index.arrow").stat().st_mtime_ns == stamp
        assert first.pixels([3]).shape == (1, 3, 16, 16) and first.folder.exists()
    assert not first.folder.exists()


def test_invariant_after_a_failure_it_stays_for_the_next_attempt(dataset_of, tmp_path):
    dataset, _ = dataset_of()
    with pytest.raises(ZeroDivisionError), cached_images(dataset, str(tmp_path)) as cached:
        raise ZeroDivisionError
    assert (cached.folder / "index.arrow").exists()
    with cached_images(dataset, str(tmp_path)):
        pass
    assert not cached.folder.exists()


def test_invariant_one_whose_maker_was_killed_is_made_anew(dataset_of, tmp_path):
    dataset, images = dataset_of()
    command = (
        "import sys, time\n"
        "from stl_ray.store import Dataset\n"
        "from stl_ray.training.data import cache, cache_build\n"
        "def slow(*arguments):\n"
        "    print('making', flush=True)\n"
        "    time.sleep(60)\n"
        "cache_build.of_size = slow\n"
        f"with cache.cached_images(Dataset.open({dataset.storage.root!r}), {str(tmp_path)!r}): pass\n"
    )
    with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE) as maker:
        maker.stdout.readline()
        maker.kill()
    (left,) = [path for path in tmp_path.glob("stl-ray-*") if path.is_dir()]
    assert not (left / "index.arrow").exists()
    with cached_images(dataset, str(tmp_path)) as cached:
        assert torch.equal(cached.pixels([7])[0].permute(1, 2, 0), torch.from_numpy(images[7]))


def test_invariant_nobody_who_uses_it_is_waited_for(dataset_of, tmp_path):
    """Ranks wait for each other's gradients while they use it: one that waited for another's end would wait for ever."""
    dataset, _ = dataset_of()
    with cached_images(dataset, str(tmp_path)):
        pass
    (lock,) = tmp_path.glob("stl-ray-*.lock")
    with lock.open("ab") as other, ThreadPoolExecutor(1) as pool:
        fcntl.flock(other, fcntl.LOCK_SH)
        try:
            count = pool.submit(lambda: len(cached_images(dataset, str(tmp_path)).__enter__())).result(timeout=10)
        finally:
            fcntl.flock(other, fcntl.LOCK_UN)
    assert count == 42


def test_refuses_a_disk_that_gets_full_meanwhile_and_leaves_nothing(dataset_of, tmp_path):
    dataset, _ = dataset_of()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot be written to this node's disk .*train\.scratch"):
            cached_images(dataset, str(tmp_path)).__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path for path in tmp_path.glob("stl-ray-*") if path.is_dir()]


def test_invariant_processes_that_start_together_share_one(dataset_of, tmp_path):
    dataset, _ = dataset_of()
    command = (
        "import sys\n"
        "from stl_ray.store import Dataset\n"
        "from stl_ray.training import cached_images\n"
        f"with cached_images(Dataset.open({dataset.storage.root!r}), {str(tmp_path)!r}) as found:\n"
        "    print(found.folder.joinpath('index.arrow').stat().st_mtime_ns, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    ranks = [subprocess.Popen([sys.executable, "-c", command], **pipes) for _ in range(2)]
    stamps = {rank.stdout.readline() for rank in ranks}
    for rank in ranks:
        rank.communicate(timeout=60)
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert len(stamps) == 1 and b"" not in stamps
    assert not [path for path in tmp_path.glob("stl-ray-*") if path.is_dir()]


def test_refuses_images_of_another_size_by_id(dataset_of, tmp_path):
    dataset, _ = dataset_of(sides=[16] * 30 + [24] + [16] * 11)
    with (
        pytest.raises(InputError, match=r"id-30: images of one size .* got \(24, 24\)"),
        cached_images(dataset, str(tmp_path)),
    ):
        pass
    with cached_images(dataset, str(tmp_path), most_decoded=0) as cached, pytest.raises(InputError, match="id-30"):
        cached.pixels([29, 30])


def test_refuses_a_disk_without_room_with_the_arithmetic(dataset_of, tmp_path, monkeypatch):
    dataset, _ = dataset_of()
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=100))
    with pytest.raises(StorageError, match=r"no room .*train\.scratch.* expected .* GiB; got 0\.0 GiB free"):
        cached_images(dataset, str(tmp_path)).__enter__()


def test_refuses_a_manifest_that_fails_its_audit(dataset_of, tmp_path):
    dataset, _ = dataset_of()
    audited(dataset)
    path = tmp_path / "run" / "MANIFEST.json"
    sound = json.loads(path.read_text())
    for change, message in (
        ({"rows": 43}, "its parts have 42 rows, not 43"),
        ({"parts": sound["parts"][:2], "rows": 25}, "do not add up to the digest"),
        ({"parts": [{**sound["parts"][0], "bytes": 1}, *sound["parts"][1:]]}, "bytes, not 1"),
    ):
        path.write_text(json.dumps({**sound, **change}))
        with pytest.raises(AuditError, match=message):
            audited(Dataset.open(str(tmp_path / "run")))
        with pytest.raises(AuditError, match=message):
            cached_images(Dataset.open(str(tmp_path / "run")), str(tmp_path)).__enter__()
    part = tmp_path / "run" / sound["parts"][1]["file"]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_text(json.dumps(sound))
    part.write_bytes(data)
    audited(dataset)  # the same length
    with pytest.raises(AuditError, match="the part was altered"):
        cached_images(Dataset.open(str(tmp_path / "run")), str(tmp_path)).__enter__()
    part.unlink()
    with pytest.raises(AuditError, match="no such file"):
        audited(dataset)


def test_refuses_a_dataset_without_class_names(dataset_of, tmp_path):
    dataset, _ = dataset_of(names=None)
    with pytest.raises(InputError, match="names no classes"):
        cached_images(dataset, str(tmp_path)).__enter__()

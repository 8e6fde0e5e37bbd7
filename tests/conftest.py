"""What every room's tests share: one thread, the schedule among processes, natural images, ../shared, an S3 server."""

import importlib.util
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)
# Ray gives its workers way to everything else, here to the tests that run beside them.
os.environ.setdefault("RAY_worker_niceness", "0")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def _group(item: pytest.Item) -> str:
    """Tests of one group run in one process: those that need the tiny experiment, and otherwise those of a file."""
    return "tiny" if "tiny" in item.fixturenames else item.nodeid.partition("::")[0]


def _order(item: pytest.Item) -> int:
    """The longest first, so that no process is left with them in the end: what needs the tiny experiment, or servers."""
    if _group(item) == "tiny":
        return 0
    return 1 if item.get_closest_marker("ray") or item.get_closest_marker("s3") else 2


def _groups_file(run: str) -> Path:
    """Where the processes of a run of pytest-xdist tell the scheduler, which sees no markers, the group of every test."""
    return Path(tempfile.gettempdir()) / f"pytest-groups-{run}.json"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the tests their order, and tell the scheduler their groups."""
    items.sort(key=_order)
    if hasattr(config, "workerinput"):
        path = _groups_file(config.workerinput["testrunuid"])
        path.write_text(json.dumps({item.nodeid: _group(item) for item in items}))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Schedules by `_group`: pytest-xdist's own `--dist loadgroup` renames tests in a way that pytest 9.2 refuses."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def schedule(self) -> None:
            if self.collection is None:
                path = _groups_file(self.nodes[0].workerinput["testrunuid"])
                self._groups: dict[str, str] = json.loads(path.read_text())
                path.unlink()
            super().schedule()

        def _split_scope(self, nodeid: str) -> str:
            return self._groups[nodeid]

    return ByGroup(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets beside the repository; the test skips where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the datasets of ../shared/data are not here")
    return SHARED_DATA


@pytest.fixture(scope="session")
def natural_images() -> torch.Tensor:
    """(24, 3, 32, 32) float32 RGB crops in [0, 1] of three of scikit-image's photographs."""
    from skimage import data

    generator = np.random.default_rng(0)
    crops = []
    for photograph in (data.astronaut(), data.coffee(), data.chelsea()):
        for _ in range(8):
            top = generator.integers(0, photograph.shape[0] - 64)
            left = generator.integers(0, photograph.shape[1] - 64)
            window = photograph[top : top + 64, left : left + 64].astype(np.float32) / 255
            crops.append(window.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3)))
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="session")
def ceph():
    """A real S3 server; the test skips where Ceph is not installed."""
    specification = importlib.util.spec_from_file_location("ceph_server", Path(__file__).with_name("ceph.py"))
    server = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(server)
    if server.missing():
        pytest.skip(f"no S3 server here: {', '.join(server.missing())} not installed (`make test-s3` installs Ceph)")
    with tempfile.TemporaryDirectory(prefix="ceph-") as folder:
        running = server.Ceph(Path(folder))
        try:
            running.start()
            yield running
        finally:
            running.stop()


@pytest.fixture
def s3(ceph, monkeypatch) -> str:
    """The URI of a new, empty bucket, with the environment that its clients need."""
    from stl_ray.store.s3 import _client

    for name, value in ceph.environment().items():
        monkeypatch.setenv(name, value)
    _client.cache_clear()  # one that another test made has the environment of that test
    return f"s3://{ceph.bucket()}"

"""Fixtures that every room's tests share: natural images that need no download, one thread, and ../shared."""

import importlib.util
import os
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)
# Ray gives its workers way to everything else, here to the tests that run beside them.
os.environ.setdefault("RAY_worker_niceness", "0")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Among several processes (`make test`): one Ray and one S3 server, so one process for all that need them."""
    from xdist.scheduler import LoadScopeScheduling

    @cache
    def scope(path: str) -> str:
        text = (config.rootpath / path).read_text()
        return "ray" if "mark.ray" in text or "mark.s3" in text else path

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid.partition("::")[0])

    return ByFile(config, log)


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
    for name, value in ceph.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://{ceph.bucket()}"

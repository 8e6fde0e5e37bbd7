"""`stl-ray submit` to a head of its own, with tokens, whose Python has everything but this package."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml

from stl_ray.runtime.submission.wheel import pack
from stl_ray.store import Layout, verify
from tests.ceph import free_port
from tests.head import Head

pytestmark = [pytest.mark.ray, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def head():
    folder = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))
    head = Head(folder)
    try:
        head.start()
        yield head
    finally:
        head.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> str:
    """What `submit` makes of this checkout."""
    return str(pack(tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def config(write_config, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("submitted")
    return write_config(
        folder,
        name="submitted",
        spaces=[{"name": "given", "load": str(folder / "root" / "given")}],
        ray={"actors": 1, "address": "somewhere else"},
        defenses=[{"name": "stl", "defense": "stl"}],
        ingest={
            "train": {"format": "photographs", "limit": 40},
            "test": {"format": "photographs", "limit": 10},
            "shard_size": 20,
        },
        project={"splits": ["train"]},
    )


@pytest.fixture(scope="module")
def root(config) -> Path:
    return Path(yaml.safe_load(Path(config).read_text())["root"])


def test_a_job_is_submitted_once_and_followed(head, wheel, config, root):
    command = ("submit", "ingest", config, "--wheel", wheel)
    secret = "not-to-be-seen-anywhere"
    first = head.run(*command, AWS_SECRET_ACCESS_KEY=secret, AWS_REGION="eu-somewhere-1")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "AWS_SECRET_ACCESS_KEY" in first.stdout and "IAM role" in first.stdout
    assert "ingest: " in first.stdout and "50 images, 0 quarantined" in first.stdout
    (job,) = head.client().list_jobs()
    assert job.submission_id.startswith("ingest-submitted-") and f"{job.submission_id} succeeded" in first.stdout
    assert job.runtime_env["env_vars"]["AWS_REGION"] == "eu-somewhere-1" and secret not in job.json()
    assert verify(str(root / Layout(str(root)).ingested("train")))["rows"] == 40
    second = head.run(*command)
    assert second.returncode == 0 and f"{job.submission_id} is there already: succeeded" in second.stdout
    assert [other.start_time for other in head.client().list_jobs()] == [job.start_time]


def test_a_failure_is_told_and_submitted_again_it_goes_on_with_the_native_core_that_travelled(
    head, wheel, config, root, random_space
):
    command = ("submit", "project", config, "--wheel", wheel)
    first = head.run(*command)
    assert first.returncode == 1 and "it failed with exit code" in first.stderr, first.stdout + first.stderr
    assert "space" in first.stderr
    random_space(root, filters=4, side=5)
    second = head.run(*command)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "failed before: submitted again" in second.stdout
    assert "stl-ray: " not in second.stdout  # what the first one logged is not said again
    assert "active_set/" in (root / "project" / "stl-train" / "run.json").read_text()


def test_the_script_of_a_job_runs_by_rays_own_client(head, wheel, config):
    folder = Path(config).parent
    shutil.copytree(REPOSITORY / "jobs", folder / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    job = f"python jobs/project.py {config} ray.address=null"
    assert "40 images" in head.succeeded(job, working_dir=str(folder), excludes=["/root"], py_modules=[wheel])


def test_the_module_of_a_classifier_travels_and_another_one_is_another_job(head, wheel, config, root, tmp_path):
    net = "import torch\nfrom pathlib import Path\n\ndef make():\n    torch.manual_seed(0)\n"
    net += "    assert Path(__file__).with_name('weights.pt').read_text() == 'weights'\n"
    net += "    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 10))\n"
    package = tmp_path / "place" / "travelling_net"
    package.mkdir(parents=True)
    for name, text in (("__init__.py", net), ("weights.pt", "weights")):
        (package / name).write_text(text)
    command = (
        "submit", "attack", config, "classifiers=[{name: own, architecture: travelling_net:make}]",
        "defenses=[{name: jpeg, defense: jpeg}]", "attack.sets=[{name: fgsm, attack: fgsm, linf: 8}]", "--wheel", wheel,
    )  # fmt: skip
    first = head.run(*command, PYTHONPATH=str(package.parent))
    assert first.returncode == 0, first.stdout + first.stderr
    assert "module travelling_net, 2 files" in first.stdout and "10 images" in first.stdout
    (package / "__init__.py").write_text(net + "# another version\n")
    second = head.run(*command, PYTHONPATH=str(package.parent))
    assert "is there already" not in second.stdout and "made with other settings or inputs" in second.stderr


def test_an_interrupt_ends_the_following_and_cancel_the_job_as_if_interrupted(head, wheel, config, root, random_space):
    slow = root.parent / "slow"
    shutil.copytree(root / "ingest", slow / "ingest")
    random_space(slow, filters=64, side=8)
    keys = (
        "solver.method=admm", "defenses.0.options.accuracy=exact", f"spaces.0.load={slow}/given", f"root={slow}"
    )  # fmt: skip
    with head.started("submit", "project", config, *keys, "--wheel", wheel) as following:
        deadline = time.monotonic() + 60
        while not list(slow.glob("project/stl-train/attempts/*")):
            assert time.monotonic() < deadline and following.poll() is None
            time.sleep(0.1)
        following.send_signal(signal.SIGINT)
        said, _ = following.communicate(timeout=20)
    assert following.returncode == 130 and "no longer followed, the job goes on" in said, said
    (name,) = (job.submission_id for job in head.client().list_jobs() if job.status == "RUNNING")
    assert f"stl-ray cancel {name} --address {head.address}" in said
    cancelled = head.run("cancel", name)
    assert cancelled.returncode == 0, cancelled.stdout + cancelled.stderr
    assert f"{name} stopped; what is done stays done" in cancelled.stdout
    assert "stl-ray: interrupted" in head.client().get_job_logs(name)
    sessions = (slow / Layout(str(slow)).sessions("project")).glob("*.json")
    assert "failed" in {json.loads(session.read_text())["outcome"] for session in sessions}
    ended = next(job for job in head.client().list_jobs() if job.status == "SUCCEEDED")
    assert f"{ended.submission_id} had ended before: succeeded" in head.run("cancel", ended.submission_id).stdout


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "the cluster asks for a token"),
        ({"RAY_AUTH_TOKEN_PATH": "/dev/null"}, "token"),
        ({"RAY_AUTH_TOKEN": "0" * 64}, "the cluster asks for a token"),
    ],
)
def test_refuses_with_what_to_do_where_the_token_is_missing(head, environment, message):
    result = head.run("cancel", "any", **environment)
    assert result.returncode == 1 and message in result.stderr and "expected RAY_AUTH_MODE=token" in result.stderr
    assert "Traceback" not in result.stderr


def test_refuses_an_unknown_job_and_an_address_where_no_dashboard_is(head):
    result = head.run("cancel", "any")
    assert result.returncode == 1 and "any: unknown job" in result.stderr
    result = subprocess.run(
        [sys.executable, "-m", "stl_ray.cli", "cancel", "any", "--address", f"http://127.0.0.1:{free_port()}"],
        env=head.environment, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 1 and "no dashboard answers" in result.stderr and "Traceback" not in result.stderr

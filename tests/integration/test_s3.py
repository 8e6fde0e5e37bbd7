"""The whole pipeline with its root in a bucket of a real S3 server."""

import pytest

from stl_ray import QuasiNaturalSpace
from stl_ray.cli import main
from stl_ray.store import Dataset, Storage, runs_below

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.faults]


def test_roundtrip_the_whole_pipeline_in_a_bucket(ceph, s3, tiny, alone, write_config, tmp_path, capsys):
    # The server is named by the root alone: drivers, actors and Ray Train's workers must all find it there.
    host = ceph.endpoint.removeprefix("http://")
    root = f"{s3}/experiments/tiny?endpoint_override={host}&scheme=http"
    environment = {name: value for name, value in ceph.environment().items() if name != "AWS_ENDPOINT_URL"}
    # Of one actor, one defense and no adaptive attacks: what does not depend on them is the same.
    config = write_config(
        tmp_path,
        root=root,
        ray={"actors": 1},
        defenses=[{"name": "stl_cluster", "defense": "stl_cluster"}],
        evaluate={"gallery": 4, "tiers": {"attacks": []}},
    )
    assert alone.run("quickstart", config, environment=environment) == 0, alone.said()
    assert main(["verify", root]) == 0
    assert "FAILED" not in capsys.readouterr().out
    storage = Storage.open(root)
    runs = runs_below(storage)
    there = runs_below(Storage.open(str(tiny)))
    assert set(runs) == {run for run in there if "/stl-" not in run and "-under-" not in run}
    for run in runs:
        # The space is fitted by Ray Train, the same to a tolerance only on other machines; here it is the same machine.
        assert Dataset.open(storage.at(run)).digest == Dataset.open(f"{tiny}/{run}").digest, run
    assert (
        QuasiNaturalSpace.load(storage.at("spaces/natural")).digest
        == QuasiNaturalSpace.load(f"{tiny}/spaces/natural").digest
    )
    assert storage.read("report/report.html").startswith(b"<!doctype html>")
    files = [file.path for file in Storage.open(s3).walk()]
    assert not [path for path in files if "lease" in path or ".preflight" in path]
    assert all(path.startswith("experiments/tiny/") for path in files)
    # Neither what was said, nor Ray's logs, nor what was stored has the secret key.
    written = [alone.written(), *(Storage.open(s3).read(path) for path in files)]
    assert len(alone.sessions()) == 1
    assert not any(ceph.secret_key.encode() in data for data in written)

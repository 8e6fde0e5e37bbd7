"""The whole pipeline with its root in a bucket of a real S3 server."""

import pytest

from stl_ray import QuasiNaturalSpace
from stl_ray.cli import main
from stl_ray.store import Dataset, Storage, runs_below

pytestmark = [pytest.mark.ray, pytest.mark.s3]


def test_roundtrip_the_whole_pipeline_in_a_bucket(local_ray, s3, tiny, write_config, tmp_path, capsys):
    root = f"{s3}/experiments/tiny"
    assert main(["quickstart", write_config(tmp_path, root=root)]) == 0, capsys.readouterr().err
    assert main(["verify", root]) == 0
    assert "FAILED" not in capsys.readouterr().out
    storage = Storage.open(root)
    runs = runs_below(storage)
    assert runs == runs_below(Storage.open(str(tiny)))
    for run in runs:
        # The space is fitted by Ray Train, the same to a tolerance only on other machines; here it is the same machine.
        assert Dataset.open(storage.at(run)).digest == Dataset.open(f"{tiny}/{run}").digest, run
    assert QuasiNaturalSpace.load(storage.at("space")).digest == QuasiNaturalSpace.load(f"{tiny}/space").digest
    assert storage.read("report/report.html").startswith(b"<!DOCTYPE html>")
    assert not [file.path for file in storage.walk() if "lease" in file.path or ".preflight" in file.path]
    everything = b"".join(
        storage.read(file.path) for file in storage.walk() if file.path.endswith((".json", ".md", ".html"))
    )
    assert b"of-the-tests-only" not in everything  # the secret key

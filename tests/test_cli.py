import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from stl_ray.cli import JOBS, main
from stl_ray.store import PlannedShard, Run, Storage

REPOSITORY = Path(__file__).parents[1]


def _help(capsys, *command):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_help_names_the_jobs_in_their_order(capsys):
    text = _help(capsys)
    places = [text.index(f"{job} ") for job in JOBS]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("job", "keys"),
    [
        (
            "ingest",
            ["ingest.train.format: photographs | folder | cifar10 | parquet (required)", "ingest.shard_size: int"],
        ),
        ("fit", ["fit.clusters: int [4]", "fit.dictionary.lmbda: float [0.2]"]),
        ("project", ["defenses: list of sections", "stl.accuracy: default | reference | exact [default]"]),
        ("train", ["train.classifier: str [small_cnn]", "train.weights: str | absent [absent]"]),
        ("attack", ["attack.sets.N.dissimilarity: float (required)", "attack.sets.N.options: mapping"]),
        ("evaluate", ["evaluate.gallery: int [8]"]),
        ("report", ["report.title: str"]),
    ],
)
def test_help_of_a_job_explains_its_keys(capsys, job, keys):
    text = _help(capsys, job)
    for key in [*keys, "root: str (required)", "ray.actors: int | absent [absent]"]:
        assert f"  {key}" in text


@pytest.mark.parametrize("job", JOBS)
def test_every_job_has_a_script_for_ray_job_submit(job):
    command = [sys.executable, str(REPOSITORY / "jobs" / f"{job}.py"), "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"usage: stl-ray {job}" in text


def test_refuses_wrong_configurations_with_exit_code_2(tmp_path, capsys):
    assert main(["ingest", str(tmp_path / "absent.yaml")]) == 2
    assert "cannot read the configuration" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.classifier=resnet5", "resnet5: unknown classifier; expected 'resnet"),
        ("attack.sets=[{name: x, attack: fgms, dissimilarity: 0.1}]", r"fgms: unknown attack; expected 'fgsm'\?"),
        ("attack.sets=[{name: x, attack: bim, dissimilarity: 0.1, options: {stesp: 3}}]", r"expected 'steps'\?"),
        ("defenses=[{name: x, defense: jpg}]", r"jpg: unknown defense; expected 'jpeg'\?"),
        ("defenses=[{name: x, defense: jpeg, options: {quality: 101}}]", r"jpeg\.quality: wrong option"),
    ],
)
def test_refuses_names_that_no_registry_knows_before_any_work(tmp_path, capsys, override, message):
    import re

    config = str(REPOSITORY / "configs" / "quickstart.yaml")
    assert main(["ingest", config, f"root={tmp_path}/root", override]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "root").exists()


def test_verify_counts_what_is_sound_and_fails_on_what_is_not(tmp_path, capsys):
    for name in ("a", "b"):
        run = Run(Storage.open(str(tmp_path / "stage" / name)), "stage", name)
        plan = [PlannedShard(number=0, source={}, rows=1, digest="x")]
        run.start(plan, identity={}, environment={})
        run.publish(plan[0], pa.table({"id": [name]}), [], seconds=0, attempt=1, environment={})
        run.finish(max_quarantined=0)
    assert main(["verify", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("1 rows in 1 parts, 0 quarantined, sound") == 2
    next((tmp_path / "stage" / "b" / "parts").iterdir()).write_bytes(b"")
    assert main(["verify", str(tmp_path)]) == 1
    assert "b: FAILED: " in capsys.readouterr().out


def test_verify_refuses_a_folder_without_datasets(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert "no finished dataset at or below this folder" in capsys.readouterr().err

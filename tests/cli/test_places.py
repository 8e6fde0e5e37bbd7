"""A place that is refused for how it is written is wrong usage, exit code 2, in every command that takes one."""

from pathlib import Path

import numpy as np
import pytest

from stl_ray.cli import main
from stl_ray.config.help import JOBS

CONFIG = str(Path(__file__).parents[2] / "configs" / "quickstart.yaml")

WRONG = {
    "s3://key:hidden@bucket/a": "credentials in a URI end up in logs",
    "s3://bucket/a?access_key=hidden": "credentials in a URI end up in logs",
    "s3://bucket/a?regoin=b": "no option 'regoin'; expected 'region'?",
    "s3://bucket/a?region=": "the option 'region'; expected one value; got none",
    "s3:///a": "no bucket",
    "s3://bucket/a//b": "a folder without a name",
    "s4://bucket/a": "no kind of storage is called 's4'",
    "s3:/bucket/a": "neither a URI nor clearly a path",
    "~nobody-of-this-name/a": "there is no such home folder",
    "file://host/a": "a file URI names no host",
    "a\nb": "a place has no line breaks",
}

DICTIONARY = "4_p5_lm0.2.npy"

COMMANDS = {
    **{f"{job} root=": [job, CONFIG, "root={}"] for job in JOBS},
    "ingest --dry-run": ["ingest", CONFIG, "root={}", "--dry-run"],
    "a source": ["ingest", CONFIG, "root=root", "ingest.train.format=folder", "ingest.train.path={}"],
    "weights": ["train", CONFIG, "root=root", "train.weights={}"],
    "quickstart": ["quickstart", "root={}"],
    "CONFIG": ["ingest", "{}"],
    "CONFIG of submit": ["submit", "ingest", "{}"],
    "submit": ["submit", "ingest", CONFIG, "root={}"],
    "--wheel": ["submit", "ingest", CONFIG, "root=root", "--wheel={}"],
    "doctor": ["doctor", CONFIG, "root={}"],
    "verify": ["verify", "{}"],
    "status": ["status", "{}"],
    "sweep": ["sweep", "{}"],
    "describe": ["describe", "{}"],
    "FILE of import": ["import", "{}", "space"],
    "SPACE of import": ["import", DICTIONARY, "{}"],
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filters = np.random.default_rng(0).standard_normal((5, 5, 3, 4)).astype(np.float32)
    np.save(DICTIONARY, filters / np.sqrt((filters**2).sum(axis=(0, 1, 2))))


@pytest.mark.parametrize("command", COMMANDS)
def test_refuses_a_place_for_how_it_is_written_as_wrong_usage(capsys, tmp_path, command):
    for place, message in WRONG.items():
        assert main([part.format(place) for part in COMMANDS[command]]) == 2, (command, place)
        said = capsys.readouterr().err
        assert message in said and "hidden" not in said
    assert [path.name for path in tmp_path.iterdir()] == [DICTIONARY]  # before any work


@pytest.mark.parametrize(
    "command", ["CONFIG", "--wheel", "verify", "status", "sweep", "describe", "FILE of import", "SPACE of import"]
)
def test_refuses_no_place_at_all_as_wrong_usage(capsys, command):
    assert main([part.format("") for part in COMMANDS[command]]) == 2
    assert "an empty place" in capsys.readouterr().err


def test_refuses_what_cannot_be_on_a_disk_of_this_machine(capsys):
    for command in ("CONFIG", "CONFIG of submit", "--wheel"):
        assert main([part.format("s3://bucket/a") for part in COMMANDS[command]]) == 2
        assert "s3://bucket/a: this file is read from a disk only; expected a path" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["s3://a;b/x", "s3://bucket/a?region=a/b", "s3://bucket/a?endpoint_url=http://["])
def test_refuses_what_the_client_of_s3_takes_for_no_place_as_wrong_usage(capsys, monkeypatch, place):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for command in ("verify", "status", "sweep", "describe", "SPACE of import", "ingest root="):
        assert main([part.format(place) for part in COMMANDS[command]]) == 2, command
        assert "expected such as" in (said := capsys.readouterr().err) or "Invalid bucket name" in said


@pytest.mark.parametrize("address", ["10.0.0.1", "ray://10.0.0.1:10001", "host:http"])
def test_refuses_what_is_no_address_of_a_cluster_as_wrong_usage(capsys, address):
    assert main(["cancel", "ingest-0", "--address", address]) == 2
    assert main(["ingest", CONFIG, "root=root", f"ray.address={address}"]) == 2
    assert "--address: " in (said := capsys.readouterr().err) and "ray.address: " in said


def test_a_place_that_is_refused_by_its_storage_is_a_failure(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    for command in ("ingest root=", "SPACE of import"):
        assert main([part.format("file/below") for part in COMMANDS[command]]) == 1
    for command in ("status", "SPACE of import"):
        assert main([part.format("a" * 300) for part in COMMANDS[command]]) == 1
    assert capsys.readouterr().err.count("StorageError: ") == 4

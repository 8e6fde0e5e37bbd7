"""What commands print of names, paths and errors that hold more than letters."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from stl_ray.cli import main, roots
from stl_ray.cli.say import say
from stl_ray.store import PlannedShard, Run, Storage

ODD = "Ba$$in [red]x[/b] :smile: 猫"
UNSEEN = "\x1b[2J\x07"


@pytest.fixture
def terminal(monkeypatch):
    """Has rich take what pytest captures for a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


def _finished(folder: Path) -> Path:
    """A run of one row."""
    run = Run(Storage.open(str(folder)), "stage", "name")
    plan = [PlannedShard(number=0, source={}, rows=1, digest="x")]
    run.start(plan, identity={}, environment={})
    run.publish(plan[0], pa.table({"id": ["a"]}), [], seconds=0, attempt=1, environment={})
    run.finish(max_quarantined=0)
    return folder


def _status(root: Path, **record) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    whole = {"job": "fit", "state": "failed", "host": "h", "pid": 7, "started": now, "updated": now, "progress": None}
    Storage.open(str(root)).write_json("status/fit.json", {**whole, **record})


def test_identity_a_line_is_said_as_one_line(capsys):
    say("two\nlines", f"猫{UNSEEN}")
    say("to the other stream \udcff", file=sys.stderr)
    captured = capsys.readouterr()
    assert captured.out == "two\\nlines\n猫\\x1b[2J\\x07\n"
    assert captured.err == "to the other stream \\udcff\n"


def test_verify_of_a_path_with_brackets_on_a_terminal(tmp_path, capsys, terminal):
    for name in ("[red]x :smile: 猫", "[/b]"):
        path = _finished(tmp_path / name)
        assert main(["verify", str(path)]) == 0
        assert f"{path}: 1 rows in 1 parts" in capsys.readouterr().out


def test_errors_are_said_without_effects_and_in_their_lines(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "x.yaml", f"--{UNSEEN}"])
    assert capsys.readouterr().err.endswith("error: unrecognized arguments: --\\x1b[2J\\x07\n")
    (tmp_path / "wrong.yaml").write_text("seed: [\\x1b]\nnothing: 1\n")
    assert main(["describe", f"{tmp_path}/a{UNSEEN}b"]) == 2  # a place has no control characters
    error = capsys.readouterr().err
    assert r"a\x1b[2J\x07b" in error and len(error.splitlines()) == 1
    assert main(["ingest", str(tmp_path / "wrong.yaml")]) == 2
    assert len(capsys.readouterr().err.splitlines()) > 2


@pytest.mark.parametrize("watch", [False, True])
def test_status_shows_errors_as_they_are(tmp_path, capsys, terminal, monkeypatch, watch):
    _status(tmp_path, error=f"{ODD}{UNSEEN}\nand a second line", remark=ODD)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(roots.time, "sleep", interrupted)
    assert main(["status", str(tmp_path), *["--watch"] * watch]) == (130 if watch else 0)
    shown = capsys.readouterr().out
    assert f"fit: {ODD}\\x1b[2J\\x07" in shown and "fit: and a second line" in shown
    assert f"fit: {ODD}\n" in shown.replace("\r", "").replace(" \n", "\n")
    assert "\x07" not in shown and "\x1b[2J" not in shown


def test_a_terminal_that_has_no_such_letters_shows_their_escapes(tmp_path):
    folder = _finished(tmp_path / "猫")
    result = subprocess.run(
        [sys.executable, "-m", "stl_ray.cli", "verify", str(folder)],
        capture_output=True, text=True, env={"PYTHONIOENCODING": "ascii", "PATH": ""},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert rf"{tmp_path}/\u732b: 1 rows" in result.stdout


def test_invariant_a_status_file_holds_any_text(tmp_path):
    _status(tmp_path, error=f"{ODD}{UNSEEN}\n\udcff")
    text = (tmp_path / "status" / "fit.json").read_bytes()
    assert b"\x1b" not in text and json.loads(text)["error"] == f"{ODD}{UNSEEN}\n\udcff"

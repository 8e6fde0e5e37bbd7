import re
import time

from stl_ray.runtime.progress import JobProgress
from stl_ray.runtime.shard_actor import ShardSummary


def test_a_line_at_the_end_where_there_is_no_terminal(capsys):
    with JobProgress("project", 100, done=40) as progress:
        progress.shard(ShardSummary("run", 0, 30, 2, '{"unreadable": 2}', worker="a:1", busy=3, span=4))
        progress.shard(ShardSummary("run", 1, 29, 1, '{"unreadable": 1}', worker="b:1", busy=2, span=4))
        progress.advance(1, note="last image")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.fullmatch(
        r"project: 100/100 images, \d+\.\d images/s, 3 quarantined \(unreadable 3\), computing 62% of the time, last image",
        lines[0],
    )


def test_lines_in_between_say_what_is_left(capsys, monkeypatch):
    monkeypatch.setattr("stl_ray.runtime.progress.LINE_EVERY_S", 0.05)
    with JobProgress("train", 10) as progress:
        progress.advance(5)
        time.sleep(0.2)
        progress.complete()
    first, *_, last = capsys.readouterr().err.splitlines()
    assert re.match(r"train: 5/10 images, .* images/s, 0 quarantined, \d+ s left", first)
    assert last.startswith("train: 10/10 images")


def test_no_rate_and_no_time_left_before_this_session_has_finished_a_unit():
    progress = JobProgress("train", 1000, done=100)
    progress.resume(300)
    figures = progress.snapshot()
    assert figures["done"] == 400
    assert figures["rate"] is figures["rate_now"] is figures["seconds_left"] is None
    assert progress._text() == "400/1000 images, 0 quarantined"


def test_identity_rates_are_of_what_this_session_has_finished(monkeypatch):
    clock = iter([0.0, *[10.0] * 4])
    monkeypatch.setattr("stl_ray.runtime.progress.time.monotonic", lambda: next(clock))
    progress = JobProgress("fit dictionaries", 1000, unit="iterations", done=500)
    progress.resume(300)
    progress.advance(50)
    figures = progress.snapshot()
    assert (figures["rate"], figures["rate_now"], figures["seconds_left"]) == (5.0, 5.0, 30.0)


def test_nothing_is_said_where_there_is_nothing_to_do(capsys):
    with JobProgress("check the attacks", 0):
        pass
    assert capsys.readouterr().err == ""


def test_a_note_of_odd_names_stays_in_its_line(capsys, monkeypatch):
    note = "classes of [/b] :smile: \x1b[2J and two\nlines"
    shown = r"classes of [/b] :smile: \x1b[2J and two\nlines"
    for colour in ("", "1"):
        monkeypatch.setenv("FORCE_COLOR", colour)
        monkeypatch.setenv("COLUMNS", "200")
        with JobProgress("train [/b]", 10) as progress:
            progress.advance(10, note=note)
        lines = capsys.readouterr().err
        assert shown in lines and "train [/b]" in lines
        assert "\x1b[2J" not in lines
        assert progress.snapshot()["note"] == note

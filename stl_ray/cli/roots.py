"""Commands on an experiment's root: `stl-ray verify`, `stl-ray status` and `stl-ray sweep`. Without torch and Ray."""

import argparse
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from stl_ray.cli.say import say
from stl_ray.cli.tables import duration, size
from stl_ray.errors import InputError, StlRayError
from stl_ray.store import Storage, runs_below, verify
from stl_ray.store.sweep import sweep
from stl_ray.text import columns, plain

if TYPE_CHECKING:
    from argparse import _SubParsersAction

VERIFY = """\
Recount a dataset, or every dataset of an experiment, from its bytes: every part's sha256 and rows, one schema, every id
once, every planned row in a part or in quarantine. It reads all of them, and says what is missing or doubled. Exit code
0 means that everything is sound."""

STATUS = """\
How far every job of an experiment is, or how its last session ended: images done and in all, images per second now and
overall, quarantined by reason, shards in flight, time left. Read from the root alone, so from anywhere, while the job
runs elsewhere."""

SWEEP = """\
Find what killed or late writers left below an experiment's root: parts that no receipt names, files that were never
finished, leases of drivers that died. Nobody reads them. Runs at which a driver is at work are passed over, and the
exit code is 1."""

EXAMPLES = """\
examples:
  stl-ray {command} runs/quickstart
  stl-ray {command} s3://bucket/experiment{rest}"""

_SILENT_S = 60.0
_LOOK_EVERY_S = 5.0


def add_commands(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `verify`, `status` and `sweep`."""

    def add(name: str, summary: str, about: str, rest: str, function: Callable[[argparse.Namespace], int]) -> Any:
        command = commands.add_parser(
            name, help=summary, description=about, epilog=EXAMPLES.format(command=name, rest=rest),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        command.add_argument("folder", metavar="ROOT", help="an experiment's root, or one dataset's folder")
        command.set_defaults(function=function)
        return command

    add("verify", "recount a finished dataset, or all of an experiment, from its bytes", VERIFY, "", _verify)
    look = add("status", "how far the jobs of an experiment are, wherever they run", STATUS, " --watch", _status)
    look.add_argument("--watch", action="store_true", help="look again every 5 s until Ctrl-C")
    clean = add("sweep", "find, and remove, what killed writers left", SWEEP, " --delete", _sweep)
    clean.add_argument("--delete", action="store_true", help="remove what is found [only say what it is]")


def _runs(folder: str) -> tuple[Storage, list[str]]:
    root = Storage.open(folder)
    runs = runs_below(root)
    if not runs:
        raise InputError("no dataset at or below this folder", item=root.root, expected="a MANIFEST.json or run.json")
    return root, runs


def _verify(options: argparse.Namespace) -> int:
    root, runs = _runs(options.folder)
    failures = 0
    for run in runs:
        name = run or root.root
        try:
            counts = _recounted(root.at(run), name)
        except StlRayError as error:
            failures += 1
            say(f"{name}: FAILED: {error}")
        else:
            orphans = f"; {counts['orphans']} parts that nobody reads (stl-ray sweep)" if counts["orphans"] else ""
            say(
                f"{name}: {counts['rows']} rows in {counts['parts']} parts, {counts['quarantined']} quarantined, "
                f"sound{orphans}"
            )
    return 1 if failures else 0


def _recounted(folder: str, name: str) -> dict[str, Any]:
    """`verify` with a bar on a terminal."""
    texts = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed} rows"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*texts, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(plain(name), total=None)
        return verify(folder, lambda rows, total: bar.update(task, advance=rows, total=total))


def _status(options: argparse.Namespace) -> int:
    from stl_ray.runtime.job_status import statuses

    records = statuses(options.folder)
    if not records:
        raise InputError("no job was started with this root", item=options.folder, expected="an experiment's root")
    if not options.watch:
        say(*_shown(records))
        return 0
    with Live(_text(records), auto_refresh=False) as live:
        while True:
            time.sleep(_LOOK_EVERY_S)
            live.update(_text(statuses(options.folder)), refresh=True)


def _text(records: Sequence[dict[str, Any]]) -> Text:
    return Text("\n".join(_shown(records)))


def _shown(records: Sequence[dict[str, Any]]) -> list[str]:
    heading = ("job", "state", "done", "of", "", "per s", "now", "in flight", "left", "quarantined")
    return [*columns([heading, *map(_row, records)]), *map(plain, _remarks(records))]


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    figures = record.get("progress")
    if figures is None:
        return (record["job"], record["state"], *[""] * 8)
    running = record["state"] == "running"
    left, in_flight = figures["seconds_left"], figures["in_flight"]
    return (
        record["job"],
        record["state"],
        str(figures["done"]),
        str(figures["total"]),
        figures["unit"],
        _rate(figures["rate"]),
        _rate(figures["rate_now"]) if running else "",
        str(in_flight) if running and in_flight is not None else "",
        duration(left) if running and left is not None else "",
        ", ".join(f"{reason} {count}" for reason, count in sorted(figures["quarantined"].items())) or "0",
    )


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.1f}"


def _remarks(records: Sequence[dict[str, Any]]) -> list[str]:
    remarks = []
    for record in records:
        silence = (datetime.now(UTC) - datetime.fromisoformat(record["updated"])).total_seconds()
        where = f"process {record['pid']} on {record['host']}"
        if record["state"] == "running" and silence > _SILENT_S:
            remarks.append(f"{record['job']}: no sign of life for {duration(silence)} from {where}; it may be dead")
        if record.get("remark"):
            remarks.append(f"{record['job']}: {record['remark']}")
        if record.get("error"):
            remarks += [f"{record['job']}: {line}" for line in record["error"].split("\n")]
    return remarks


def _sweep(options: argparse.Namespace) -> int:
    root, runs = _runs(options.folder)
    failures, count, total = 0, 0, 0
    for run in runs:
        name = run or root.root
        try:
            swept = sweep(root, run, delete=options.delete)
        except StlRayError as error:
            failures += 1
            say(f"{name}: passed over: {error}")
            continue
        count, total = count + len(swept.files), total + swept.bytes
        for file in swept.files:
            say(f"{name}/{file}")
    verb = "removed" if options.delete else "found; --delete removes them" if count else "found"
    say(f"{count} files of {size(total)} {verb}")
    return 1 if failures else 0

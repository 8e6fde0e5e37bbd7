"""The jobs: `stl-ray JOB CONFIG [key=value ...]`, and `stl-ray quickstart`, which is all of them."""

import argparse
import importlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stl_ray.cli.given import functions_of, given_experiment
from stl_ray.cli.say import say
from stl_ray.cli.tables import duration, size
from stl_ray.config import Experiment, bundled
from stl_ray.config.help import JOBS, explain_keys
from stl_ray.store import Layout, Storage
from stl_ray.text import columns

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_commands(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add a command for each job, and `quickstart`."""
    for job, (summary, _) in JOBS.items():
        command = commands.add_parser(
            job, help=summary, description=summary, epilog=explain_keys(job),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        command.add_argument("config", help="YAML file of the experiment")
        command.add_argument("overrides", nargs="*", metavar="key=value", help="keys to set, such as train.epochs=5")
        command.add_argument(
            "--dry-run", action="store_true",
            help="write nothing: say what would be made, how large it would be and how long it would take, from some "
            "images that are really made",
        )  # fmt: skip
        command.set_defaults(function=_job, job=job)
    quickstart = commands.add_parser(
        "quickstart",
        help="all seven jobs, one after the other, on photographs that ship with scikit-image",
        description="All seven jobs, one after the other. Without a YAML file: the bundled experiment on photographs, "
        "written to runs/quickstart.",
    )
    quickstart.add_argument("overrides", nargs="*", metavar="[CONFIG] key=value", help="another YAML file; keys to set")
    quickstart.set_defaults(function=_quickstart)


def _job(options: argparse.Namespace) -> int:
    experiment = given_experiment(options.config, options.overrides)
    if options.dry_run:
        _estimate(options.job, experiment)
    else:
        run_job(options.job, experiment)
    return 0


def _estimate(job: str, experiment: Experiment) -> None:
    from stl_ray.pipeline.estimate import estimate
    from stl_ray.pipeline.preflight import preflight
    from stl_ray.runtime.session import ray_session

    preflight(experiment, job)
    with ray_session(experiment.ray, functions_of(experiment, job)):
        forecast = estimate(job, experiment)
    heading = ("", "shards", "left", "of", "", "in all", "workers", "time")
    rows = [
        (
            step.name, "" if step.shards is None else str(step.shards), str(step.left), str(step.total), step.unit,
            size(step.bytes), str(step.workers), ("<= " if step.at_most else "") + duration(step.seconds / step.workers),
        )
        for step in forecast.steps
    ]  # fmt: skip
    if rows:
        say(*columns([heading, *rows]))
    for step in forecast.steps:
        if step.detail:
            say(f"{step.name}: {step.detail}")
    bound = "at most" if any(step.at_most for step in forecast.steps) else "about"
    say(
        f"{job}: {bound} {duration(forecast.seconds)} after Ray's start, {size(forecast.bytes)} in {experiment.root}; "
        "nothing was written"
    )
    folder = Storage.open(experiment.root).folder
    if folder is not None:
        free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
        if free < forecast.bytes:
            say(f"the disk is too small: {size(free)} free")


def _quickstart(options: argparse.Namespace) -> int:
    overrides = list(options.overrides)
    given = bool(overrides) and ("=" not in overrides[0] or Path(overrides[0]).is_file())
    config = overrides.pop(0) if given else bundled("quickstart")
    experiment = given_experiment(config, overrides)
    from stl_ray.pipeline.preflight import preflight
    from stl_ray.runtime.session import ray_session

    preflight(experiment, *JOBS)
    with ray_session(experiment.ray, functions_of(experiment, *JOBS)):
        for job in JOBS:
            run_job(job, experiment)
    return 0


def run_job(job: str, experiment: Experiment) -> None:
    """Run one job of an experiment and print its outcome in one line."""
    from stl_ray.pipeline.preflight import preflight
    from stl_ray.runtime.job_log import job_session

    preflight(experiment, job)
    with job_session(job, experiment) as counts:
        counts.update(_run_report(experiment) if job == "report" else _run_stage(job, experiment))
    say(f"{job}: {counts.get('summary', '')}{_counted(counts)}")
    if "remark" in counts:
        say(f"{job}: {counts['remark']}")


def _run_stage(job: str, experiment: Experiment) -> dict[str, Any]:
    from stl_ray.runtime.session import ray_session

    stage = importlib.import_module(f"stl_ray.pipeline.{job}")
    with ray_session(experiment.ray, functions_of(experiment, job)):
        counts: dict[str, Any] = stage.run(experiment)
    return counts


def _run_report(experiment: Experiment) -> dict[str, Any]:
    from stl_ray.report import build_report

    paths = build_report(experiment.root, Layout(experiment.root).uri(Layout.report), experiment.report)
    return {"summary": f"open {paths.html}"}


def _counted(counts: dict[str, Any]) -> str:
    if not counts.get("images"):
        return ""
    return f"{counts['images']} images, {counts['quarantined']} quarantined"

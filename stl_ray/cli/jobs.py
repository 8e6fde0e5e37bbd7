"""The jobs: `stl-ray JOB CONFIG [key=value ...]`, and `stl-ray quickstart`, which is all of them."""

import argparse
import importlib
from typing import TYPE_CHECKING, Any

from stl_ray.config import Experiment, bundled, load_experiment
from stl_ray.config.help import explain_keys
from stl_ray.store import Layout

if TYPE_CHECKING:
    from argparse import _SubParsersAction

JOBS = {
    "ingest": "files of any kind -> image shards",
    "fit": "training shards -> the stratified space: autoencoder, clusters, dictionaries",
    "project": "image shards -> purified image shards, through every defense",
    "train": "classifiers on clean and on purified shards",
    "attack": "adversarial image shards, crafted on the vanilla classifier",
    "evaluate": "every defense x attack x classifier -> scores with intervals",
    "report": "scores -> tables, figures, one HTML page",
}


def add_commands(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add a command for each job, and `quickstart`."""
    for job, summary in JOBS.items():
        command = commands.add_parser(
            job, help=summary, description=summary, epilog=explain_keys(job),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        command.add_argument("config", help="YAML file of the experiment")
        command.add_argument("overrides", nargs="*", metavar="key=value", help="keys to set, such as fit.clusters=4")
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
    experiment = load_experiment(options.config, options.overrides)
    run_job(options.job, experiment)
    return 0


def _quickstart(options: argparse.Namespace) -> int:
    overrides = list(options.overrides)
    config = overrides.pop(0) if overrides and "=" not in overrides[0] else bundled("quickstart")
    experiment = load_experiment(config, overrides)
    from stl_ray.stages.session import ray_session

    with ray_session(experiment.ray):
        for job in JOBS:
            run_job(job, experiment)
    return 0


def run_job(job: str, experiment: Experiment) -> None:
    """Run one job of an experiment and print one line of what came of it."""
    from stl_ray.stages.preflight import preflight
    from stl_ray.stages.record import job_session

    preflight(experiment)
    with job_session(job, experiment) as counts:
        counts.update(_run_report(experiment) if job == "report" else _run_stage(job, experiment))
    print(f"{job}: {counts.pop('summary', '')}{_counted(counts)}", flush=True)


def _run_stage(job: str, experiment: Experiment) -> dict[str, Any]:
    from stl_ray.stages.session import ray_session

    stage = importlib.import_module(f"stl_ray.stages.{job}")
    with ray_session(experiment.ray):
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

"""`stl-ray JOB CONFIG [key=value ...]`: parse, call, print what came of it, and return the exit code.

Exit codes: 0 everything planned is done; 1 something failed (the message says what and where); 2 wrong usage or
configuration; 130 interrupted.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stl_ray import __version__
from stl_ray.config import Experiment, bundled, load_experiment
from stl_ray.config.help import explain_keys
from stl_ray.errors import ConfigError, InputError, StlRayError
from stl_ray.store import Layout, Storage, verify

JOBS = {
    "ingest": "files of any kind -> image shards",
    "fit": "training shards -> the stratified space: autoencoder, clusters, dictionaries",
    "project": "image shards -> purified image shards, through every defense",
    "train": "classifiers on clean and on purified shards",
    "attack": "adversarial image shards, crafted on the vanilla classifier",
    "evaluate": "every defense x attack x classifier -> scores with intervals",
    "report": "scores -> tables, figures, one HTML page",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.function(options))
    except (ConfigError, InputError) as error:
        print(f"stl-ray: {error}", file=sys.stderr)
        return 2
    except StlRayError as error:
        print(f"stl-ray: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stl-ray: interrupted; run the same command again to continue", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stl-ray",
        description="Adversarial defense by stratified convolutional sparse coding, as batch jobs on a Ray cluster. "
        "The jobs in their order: " + ", ".join(JOBS) + ". Every job can be killed and run again: it continues.",
    )
    parser.add_argument("--version", action="version", version=f"stl-ray {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
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
    audit = commands.add_parser(
        "verify",
        help="recount a finished dataset, or all of an experiment, from its bytes",
        description="Recount ids, rows, sha256 and schema of a dataset, or of every dataset below an experiment's root.",
    )
    audit.add_argument("folder", help="a dataset's folder or an experiment's root")
    audit.set_defaults(function=_verify)
    return parser


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


def _verify(options: argparse.Namespace) -> int:
    root = Storage.open(options.folder)
    manifests = sorted(root.root.rglob("MANIFEST.json"))
    if not manifests:
        raise InputError("no finished dataset at or below this folder", item=root.root, expected="a MANIFEST.json")
    failures = 0
    for manifest in manifests:
        name = manifest.parent.relative_to(Path(root.root).parent)
        try:
            counts = verify(str(manifest.parent))
        except StlRayError as error:
            failures += 1
            print(f"{name}: FAILED: {error}")
        else:
            print(
                f"{name}: {counts['rows']} rows in {counts['parts']} parts, {counts['quarantined']} quarantined, sound"
            )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

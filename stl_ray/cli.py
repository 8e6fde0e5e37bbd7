"""`stl-ray JOB CONFIG [key=value ...]`: parse, call, print what came of it, and return the exit code.

Exit codes: 0 everything planned is done; 1 something failed (the message says what and where); 2 wrong usage or
configuration; 130 interrupted.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stl_ray import __version__
from stl_ray.config import Experiment, bundled, load_experiment
from stl_ray.config.help import explain_keys
from stl_ray.errors import ConfigError, DictionaryError, InputError, StlRayError
from stl_ray.store import Layout, Storage, runs_below, verify
from stl_ray.store.shards import sha256

JOBS = {
    "ingest": "files of any kind -> image shards",
    "fit": "training shards -> the stratified space: autoencoder, clusters, dictionaries",
    "project": "image shards -> purified image shards, through every defense",
    "train": "classifiers on clean and on purified shards",
    "attack": "adversarial image shards, crafted on the vanilla classifier",
    "evaluate": "every defense x attack x classifier -> scores with intervals",
    "report": "scores -> tables, figures, one HTML page",
}

DESCRIBE = """\
A page on a space: its digest, its hyper-parameters, how it was made, and how well its autoencoder and dictionaries do
on held-out images; and pictures of its filters, of the images of every cluster, and of how many clusters it might have
had. What a space does not have is left out: an imported dictionary has no clusters. Needs neither torch nor Ray."""

DESCRIBE_EXAMPLES = """\
examples:
  stl-ray describe runs/quickstart                        # pictures in runs/quickstart/space/portrait
  stl-ray describe runs/quickstart/space --output portrait

The digest is the one by which shards purified by stl_cluster, and classifiers trained on them, name the space (stl
names that of the universal dictionary alone). What a shard names:
  python -c "import pyarrow.parquet as pq; print(pq.read_schema('part.parquet').metadata[b'stl_ray'])\""""

IMPORT = """\
Make a space of one of the authors' published dictionaries: a .npy file of (S, S, C, K) floats, channels in BGR order,
named K_pS_lmLAMBDA.npy. The space has that one dictionary, in RGB, and no clusters. Files that hold Python objects are
refused, and so is a folder that holds another space."""

IMPORT_EXAMPLES = """\
examples:
  stl-ray import 64_p8_lm0.2.npy spaces/authors
  stl-ray import filters.npy spaces/filters --lmbda 0.1   # a name that does not say lambda
  stl-ray describe spaces/authors

In Python: QuasiNaturalSpace.load("spaces/authors"). Imported to ROOT/space, it takes the place of what `fit` makes: the
jobs after fit project onto it, with the defense stl."""


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
    portrait = commands.add_parser(
        "describe", help="a page and pictures of a fitted or imported space", description=DESCRIBE,
        epilog=DESCRIBE_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    portrait.add_argument("space", metavar="SPACE", help="folder of a space, or an experiment's root")
    portrait.add_argument("--output", metavar="FOLDER", help="where the pictures go [SPACE/portrait]")
    portrait.set_defaults(function=_describe)
    imported = commands.add_parser(
        "import", help="a space from one of the authors' .npy dictionaries", description=IMPORT,
        epilog=IMPORT_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    imported.add_argument("file", metavar="FILE.npy", help="the dictionary")
    imported.add_argument("space", metavar="SPACE", help="folder to write the space to")
    imported.add_argument("--lmbda", type=float, metavar="X", help="lambda it was learned at [from the file's name]")
    imported.set_defaults(function=_import)
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


def _describe(options: argparse.Namespace) -> int:
    from stl_ray.report import find_space, indented, portrait_text, portray, read_space

    folder = find_space(options.space)
    portrait = portray(read_space(folder))
    print(f"The space in {folder}\n\n{portrait_text(portrait)}", flush=True)
    paths = portrait.save_figures(options.output or f"{folder}/portrait")
    for path, figure in zip(paths, portrait.figures, strict=True):
        print(f"\n{path}\n{indented(figure.caption)}")
    return 0


def _import(options: argparse.Namespace) -> int:
    from stl_ray.csc import Dictionary
    from stl_ray.space import QuasiNaturalSpace

    try:
        dictionary = Dictionary.from_reference(options.file, options.lmbda)
    except DictionaryError as error:
        raise InputError(error.message, item=options.file, expected=error.expected, got=error.got) from error
    file = Path(options.file)
    imported = {"file": file.name, "sha256": sha256(file.read_bytes())}
    space = replace(QuasiNaturalSpace.from_dictionary(dictionary), provenance={"imported": imported})
    storage = Storage.open(options.space)
    if storage.exists("space.json"):
        there = QuasiNaturalSpace.load(options.space)
        if there.digest != space.digest:
            raise InputError(
                "another space is there already; give another folder", item=storage.root, expected=space.digest,
                got=there.digest,
            )  # fmt: skip
    else:
        space.save(options.space)
    count, side = len(dictionary.filters), dictionary.side
    print(
        f"{storage.root}: a space of {count} filters of {side} x {side} pixels at lambda {space.lmbda:g}, "
        f"digest {space.digest}"
    )
    return 0


def _verify(options: argparse.Namespace) -> int:
    root = Storage.open(options.folder)
    folders = runs_below(root)
    if not folders:
        raise InputError("no finished dataset at or below this folder", item=root.root, expected="a MANIFEST.json")
    failures = 0
    for folder in folders:
        try:
            counts = verify(root.at(folder))
        except StlRayError as error:
            failures += 1
            print(f"{folder or root.root}: FAILED: {error}")
        else:
            print(
                f"{folder or root.root}: {counts['rows']} rows in {counts['parts']} parts, "
                f"{counts['quarantined']} quarantined, sound"
            )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""`stl-ray submit` and `stl-ray cancel`: jobs on a cluster, through its dashboard; `stl-ray doctor`: a check of its nodes."""

import argparse
import sys
from typing import TYPE_CHECKING

from stl_ray.cli.given import functions_of, given_experiment
from stl_ray.cli.say import say
from stl_ray.config import Experiment
from stl_ray.config.classifiers import IMAGENET, is_published
from stl_ray.config.help import JOBS
from stl_ray.errors import IncompleteRunError, StorageError
from stl_ray.options import require_known
from stl_ray.runtime.signals import INTERRUPTED
from stl_ray.text import columns
from stl_ray.uris import is_uri, on_disk

if TYPE_CHECKING:
    from argparse import _SubParsersAction

SUBMIT = """\
Hand a job to a Ray cluster, and follow it. What travels is this package as a wheel, native core included, and the
resolved configuration; the nodes have its dependencies installed. The same job of the same configuration and version is
submitted once: given again, the command follows the job that is there, or, where that failed or was stopped, submits it
again, and it goes on where it stopped. Exit code 0 means that it succeeded."""

SUBMIT_EXAMPLES = """\
examples:
  export RAY_AUTH_MODE=token                              # and the cluster's token in ~/.ray/auth_token
  stl-ray submit project imagenet.yaml --address http://127.0.0.1:8265
  stl-ray submit project imagenet.yaml ray.actors=16 --no-follow
  stl-ray submit project imagenet.yaml --wheel stl_ray-0.1.0-cp311-cp311-manylinux_2_28_x86_64.whl

Settings of the storage (AWS_ENDPOINT_URL, AWS_REGION, ...) are passed on; credentials are not, since a job's record shows
them: nodes have a role, or an environment of their own. docs/operations.md has the rest."""

CANCEL = """\
Stop a job on a cluster. Shards that are done stay done: submitted again, the job goes on with the others."""

DOCTOR = """\
Ask every node that a job may use what it would otherwise find out too late: CPUs, GPUs and memory, versions of the
packages and of Python, the instruction sets of the native core, whether PyTorch sees the GPU, and whether the root can
be written to and read from there. It joins Ray as a job does (ray.address, RAY_ADDRESS, else a local one), so run it
where that is possible, on the head for example. Exit code 0 means that nothing needs mending."""


def add_commands(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `submit`, `cancel` and `doctor`."""
    submitted = commands.add_parser(
        "submit", help="hand a job to a cluster, and follow it", description=SUBMIT, epilog=SUBMIT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    submitted.add_argument("job", metavar="JOB", help=", ".join(JOBS))
    submitted.add_argument("config", help="YAML file of the experiment")
    submitted.add_argument("overrides", nargs="*", metavar="key=value", help="keys to set, such as ray.actors=16")
    submitted.add_argument(
        "--follow",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="say what it logs until it has ended [yes]",
    )
    submitted.add_argument("--wheel", metavar="FILE", help="the package, built for the nodes' platform")
    submitted.add_argument("--pure", action="store_true", help="send the package even without its native core")
    submitted.set_defaults(function=_submit)
    cancelled = commands.add_parser(
        "cancel", help="stop a job on a cluster", description=CANCEL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    cancelled.add_argument("submission", metavar="ID", help="what submit said, such as project-imagenet-0123456789ab")
    cancelled.set_defaults(function=_cancel)
    examined = commands.add_parser(
        "doctor", help="ask every node for versions, processor, GPU and storage", description=DOCTOR,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    examined.add_argument("config", help="YAML file of the experiment")
    examined.add_argument("overrides", nargs="*", metavar="key=value", help="keys to set, such as root=s3://bucket/exp")
    examined.set_defaults(function=_doctor)
    for command in (submitted, cancelled):
        command.add_argument(
            "--address",
            metavar="URL",
            help="the dashboard [RAY_API_SERVER_ADDRESS, RAY_ADDRESS, http://127.0.0.1:8265]",
        )


def _submit(options: argparse.Namespace) -> int:
    require_known(options.job, JOBS, kind="job")
    experiment = given_experiment(options.config, options.overrides)
    from stl_ray.pipeline.preflight import preflight
    from stl_ray.runtime.submission.client import connect, follow
    from stl_ray.runtime.submission.submit import submit

    preflight(experiment, options.job)
    if paths := _only_here(experiment):
        say(f"must be the same shared folder on every node: {', '.join(paths)}")
    wheel = None if options.wheel is None else on_disk(options.wheel)
    client = connect(options.address)
    job = submit(
        client, options.job, experiment, say, functions=_sent(options.job, experiment), wheel=wheel, pure=options.pure
    )
    cancelling = f"stl-ray cancel {job.name} --address {client.get_address()}"
    if not options.follow:
        say(f"the same command follows it; {cancelling}")
        return 0
    try:
        follow(client, job.name, _pass_on, skip=job.skip)
    except KeyboardInterrupt:
        say("", f"no longer followed, the job goes on; the same command follows it again; {cancelling}")
        return INTERRUPTED
    say(f"{job.name} succeeded")
    return 0


def _cancel(options: argparse.Namespace) -> int:
    from stl_ray.runtime.submission.client import connect
    from stl_ray.runtime.submission.submit import cancel

    status = cancel(connect(options.address), options.submission)
    if status == "STOPPED":
        say(f"{options.submission} stopped; what is done stays done, submitted again it goes on with the rest")
    else:
        say(f"{options.submission} had ended before: {status.lower()}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    experiment = given_experiment(options.config, options.overrides)
    from stl_ray.pipeline.preflight import preflight
    from stl_ray.runtime.session import ray_session
    from stl_ray.runtime.submission.node_check import disagreements, examine

    preflight(experiment)
    with ray_session(experiment.ray, experiment.functions):
        reports = examine(experiment)
        problems = disagreements(reports, experiment)
    heading = ("node", "CPUs", "GPUs", "memory", "Python", "stl-ray", "native core", "GPU", "root")
    rows = [
        (
            report.host, f"{report.cpus:g}", f"{report.gpus:g}", f"{report.memory_gb:g} GB", report.python,
            (report.versions or {}).get("stl-ray", ""), next(iter(report.instruction_sets), "none"), report.gpu or "none",
            "no answer" if report.problem else "refused" if report.storage else "writable",
        )
        for report in reports
    ]  # fmt: skip
    say(*columns([heading, *rows]))
    for problem in problems:
        say(f"to mend: {problem}")
    say(f"{len(problems)} to mend" if problems else f"all {len(reports)} nodes are fit for {experiment.root}")
    return 1 if problems else 0


def _sent(job: str, experiment: Experiment) -> tuple[str, ...]:
    """The functions whose modules go along: those of a substitute experiment too, if it can be read from here."""
    try:
        return functions_of(experiment, job)
    except (IncompleteRunError, StorageError) as error:
        say(f"if classifiers or defenses of the substitute are modules, they do not travel: {error}")
        return experiment.functions


def _only_here(experiment: Experiment) -> list[str]:
    """The paths of an experiment that are no URIs."""
    paths = {experiment.root, *(source.path for source in experiment.ingest.sources.values())}
    paths |= {path for space in experiment.spaces for path in (space.load, space.autoencoder.pretrained)}
    paths |= {item.weights for item in experiment.classifiers if item.weights and not is_published(item.weights)}
    paths |= {
        item.classes for item in experiment.classifiers if isinstance(item.classes, str) and item.classes != IMAGENET
    }
    paths.add(experiment.evaluate.tiers.substitute)
    return sorted(path for path in paths if path and not is_uri(path))


def _pass_on(log: str) -> None:
    """The log of a job, as its processes wrote it."""
    sys.stdout.write(f"{log}\n")
    sys.stdout.flush()

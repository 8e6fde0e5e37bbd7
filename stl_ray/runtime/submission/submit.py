"""A job handed to a cluster by the job API of its dashboard: submitted once, cancelled.

The id of a submission says what it is (job, experiment, digest of the resolved configuration and version). So a command
given twice is one job, and given again after a failure it goes on where the job stopped.

What goes along shows in the job's record, which whoever reaches the dashboard may read: settings do, secrets never.
"""

import os
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.job_submission import JobDetails, JobSubmissionClient

from stl_ray import __version__
from stl_ray.config import Experiment
from stl_ray.config.values import written
from stl_ray.errors import ClusterError, ConfigError, InputError
from stl_ray.options import require_known
from stl_ray.runtime.submission.client import Say, explained
from stl_ray.runtime.submission.wheel import pack
from stl_ray.runtime.user_modules import UserModule, travelling
from stl_ray.store.filesystem import canonical_json
from stl_ray.store.shards import sha256
from stl_ray.uri_options import refuse_credentials

# Settings that the nodes need as the submitter has them.
PASSED_ON = (
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED",
    "RAY_AUTH_MODE",
)  # fmt: skip
LEFT_OUT = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS")  # fmt: skip

# A job that is stopped is interrupted as by Ctrl-C, and has this long to give its lease back and write its record.
_STOPPING = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "30"}

# The head goes on watching a job for about a second after its end, and would take another of the same id for it.
_SETTLED_S = 5.0


@dataclass(frozen=True)
class Submission:
    """A job that the cluster has.

    Attributes:
        name: its id.
        skip: characters of its log that are of an earlier job of that id, which the head appends to.
    """

    name: str
    skip: int = 0


def submission_id(job: str, experiment: Experiment, modules: Sequence[UserModule] = ()) -> str:
    """The id of a job of an experiment, with the modules that travel: the same for the same work."""
    identity: dict[str, Any] = {"config": experiment.model_dump(mode="json"), "version": __version__}
    if modules:
        identity["modules"] = {module.name: module.digest for module in modules}
    return f"{job}-{experiment.name}-{sha256(canonical_json(identity))[:12]}"


def environment_of(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The part of the submitter's environment that the job gets, and the names of the variables that are left out.

    Raises:
        ConfigError: if a setting has credentials in it.
    """
    passed = {name: environ[name] for name in PASSED_ON if environ.get(name)}
    for name, value in passed.items():
        try:
            refuse_credentials(value)
        except InputError as error:
            raise ConfigError(error.message, item=name) from error
    return passed, [name for name in LEFT_OUT if environ.get(name)]


def submit(
    client: JobSubmissionClient,
    job: str,
    experiment: Experiment,
    say: Say,
    *,
    functions: Sequence[str],
    wheel: Path | None,
    pure: bool,
) -> Submission:
    """Submit a job, unless it is there already.

    Args:
        client: of `connect`.
        job: its name.
        experiment: the resolved configuration; the job joins the Ray that it is given to, whatever `ray.address` says.
        say: is told what happens.
        functions: the users' own classifiers and defenses that it loads, whose modules travel.
        wheel: the package to send; None: the running one.
        pure: send it without the native core as well.

    Returns:
        The job, newly submitted or there already.

    Raises:
        ClusterError: if the cluster refuses.
        InputError: if the package cannot be sent.
        ConfigError: if the module of a classifier or a defense cannot.
    """
    experiment = experiment.model_copy(update={"ray": experiment.ray.model_copy(update={"address": None})})
    modules = travelling(functions)
    name = submission_id(job, experiment, modules)
    passed, left_out = environment_of(os.environ)
    with explained(client.get_address()):
        known = {info.submission_id: info for info in client.list_jobs()}
    before = known.get(name)
    if before is not None and before.status in ("PENDING", "RUNNING", "SUCCEEDED"):
        say(f"{name} is there already: {before.status.lower()}")
        return Submission(name)
    if left_out:
        say(f"not passed on, since a job's record shows it: {', '.join(left_out)}")
        say("nodes need an IAM role, or an environment of their own")
    with tempfile.TemporaryDirectory() as folder:
        working_dir, wheels, own = (Path(folder, name) for name in ("job", "wheel", "modules"))
        working_dir.mkdir()
        wheels.mkdir()
        (working_dir / "config.yaml").write_text(written(experiment.model_dump(mode="json")), encoding="utf-8")
        package = pack(wheels, wheel=wheel, pure=pure)
        say(f"package {package.name}, {package.stat().st_size / 1e6:.1f} MB")
        for module in modules:
            say(f"module {module}")
        runtime_env = {
            "working_dir": str(working_dir),
            "py_modules": [str(package), *(str(module.copied(own)) for module in modules)],
            "env_vars": {**passed, **_STOPPING},
        }
        skip = _make_way(client, before, say) if before is not None else 0
        try:
            with explained(client.get_address()):
                client.submit_job(
                    submission_id=name,
                    entrypoint=shlex.join(["python", "-m", "stl_ray.cli", job, "config.yaml"]),
                    runtime_env=runtime_env,
                    metadata={"job": job, "experiment": experiment.name, "version": __version__},
                )
        except ClusterError as error:
            if "already exists" not in str(error):
                raise
            say(f"{name} was submitted by someone else in the meantime")
        else:
            say(f"{name} submitted")
    return Submission(name, skip)


def cancel(client: JobSubmissionClient, name: str) -> str:
    """Stop a job and wait until it has ended.

    Returns:
        The status that it ended with: another than STOPPED where it had ended before.

    Raises:
        ClusterError: if there is no such job, or it does not stop.
    """
    with explained(client.get_address()):
        known = [info.submission_id for info in client.list_jobs() if info.submission_id]
        require_known(name, known, kind="job", error=ClusterError)
        client.stop_job(name)
        deadline = time.monotonic() + int(_STOPPING["RAY_JOB_STOP_WAIT_TIME_S"]) + 30
        while not (status := client.get_job_status(name)).is_terminal():
            if time.monotonic() > deadline:
                raise ClusterError("does not stop; give the command again", item=name, got=status)
            time.sleep(1)
        return str(status.value)


def _make_way(client: JobSubmissionClient, before: JobDetails, say: Say) -> int:
    """Delete the record of a job that has ended, so that its id is free; returns the length of its log, which stays."""
    name = str(before.submission_id)
    say(f"{name} {before.status.lower()} before: submitted again, it goes on where it stopped")
    ended = (before.end_time or 0) / 1000
    time.sleep(min(_SETTLED_S, max(0.0, ended + _SETTLED_S - time.time())))
    with explained(client.get_address()):
        length = len(client.get_job_logs(name))
        client.delete_job(name)
    return length

"""The check-up of a cluster before a long job: every node's software and devices, and whether it reaches the storage."""

import importlib.util
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import ray
import torch
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from stl_ray.config import Experiment
from stl_ray.csc import native
from stl_ray.errors import StlRayError
from stl_ray.runtime.node_labels import nodes_matching
from stl_ray.store import Storage

# Packages whose versions must agree for one identity to give the same bytes, or for nodes to work together at all.
PACKAGES = ("stl-ray", "ray", "torch", "torchvision", "pillow", "pyarrow", "numpy")

_ANSWER_S = 90


@dataclass(frozen=True)
class NodeReport:
    """The answer of a node.

    Attributes:
        host: its name.
        cpus: logical CPUs that Ray may use there.
        gpus: the same of GPUs.
        memory_gb: that Ray may use.
        python: version.
        versions: of the packages, "" for one that is missing.
        instruction_sets: that the native core may use there, best first; none where it was not built.
        gpu: the device, and whether Triton is there for its kernels; "" without one.
        storage: "" if the root can be written to from there, else what refuses.
        problem: "" if the node answered.
    """

    host: str
    cpus: float
    gpus: float
    memory_gb: float
    python: str = ""
    versions: dict[str, str] | None = None
    instruction_sets: tuple[str, ...] = ()
    gpu: str = ""
    storage: str = ""
    problem: str = ""


def examine(experiment: Experiment) -> list[NodeReport]:
    """Ask every node that may be worked on; needs a Ray that is connected."""
    nodes = nodes_matching(experiment.ray.selectors)
    questions = [_ask(node, experiment) for node in nodes]
    return [_answer(node, question) for node, question in zip(nodes, questions, strict=True)]


def disagreements(reports: list[NodeReport], experiment: Experiment) -> list[str]:
    """Problems to mend before a job is started, none where all is well."""
    here = _versions()
    method: str = experiment.solver.method
    named = method.partition("active_set/")[2]
    problems = []
    for report in reports:
        if report.problem:
            problems.append(f"{report.host}: {report.problem}")
            continue
        for name, there in (report.versions or {}).items():
            if there != here[name]:
                problems.append(f"{report.host}: {name} is {there or 'missing'}, and {here[name] or 'missing'} here")
        if report.python.rpartition(".")[0] != platform.python_version().rpartition(".")[0]:
            problems.append(f"{report.host}: Python is {report.python}, and {platform.python_version()} here")
        if report.storage:
            problems.append(f"{report.host}: {report.storage}")
        if not report.instruction_sets and not report.gpus:
            problems.append(f"{report.host}: the native core was not built; projections would be slow")
        elif named and named not in report.instruction_sets:
            usable = ", ".join(report.instruction_sets) or "none"
            problems.append(f"{report.host}: solver.method is {method}, and the native core there may use {usable}")
        if report.gpus and experiment.ray.gpus_per_actor and "Triton" not in report.gpu:
            problems.append(f"{report.host}: Ray has {report.gpus:g} GPUs there, PyTorch {report.gpu or 'none'}")
    kinds = {report.instruction_sets[:1] for report in reports if not report.problem and not report.gpus}
    if method == "auto" and len(kinds) > 1:
        best = " and ".join(sorted(kind[0] if kind else "none" for kind in kinds))
        problems.append(
            f"the processors differ ({best}): set solver.method to active_set/ and what all of them have, or {native.CAP} "
            "on every node"
        )
    return problems


def _ask(node: dict[str, Any], experiment: Experiment) -> Any:
    resources = node["Resources"]
    where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    # A GPU is visible only to tasks that take a little of it.
    gpus = 0.01 if resources.get("GPU") else 0
    remote = ray.remote(num_cpus=0, num_gpus=gpus, max_retries=0)(_examine_here)
    return remote.options(scheduling_strategy=where).remote(experiment.root)


def _answer(node: dict[str, Any], question: Any) -> NodeReport:
    resources = node["Resources"]
    known = {
        "host": node["NodeManagerHostname"],
        "cpus": resources.get("CPU", 0),
        "gpus": resources.get("GPU", 0),
        "memory_gb": round(resources.get("memory", 0) / 2**30, 1),
    }
    try:
        return NodeReport(**known, **ray.get(question, timeout=_ANSWER_S))
    except RayError as error:
        return NodeReport(**known, problem=f"it does not answer ({str(error).strip().splitlines()[-1]})")


def _examine_here(root: str) -> dict[str, Any]:
    try:
        Storage.open(root).preflight()
        storage = ""
    except StlRayError as error:
        storage = str(error)
    gpu = ""
    if torch.cuda.is_available():
        triton = " with Triton" if importlib.util.find_spec("triton") else " without Triton"
        gpu = torch.cuda.get_device_name() + triton
    return {
        "python": platform.python_version(),
        "versions": _versions(),
        "instruction_sets": tuple(native.instruction_sets()) if native.available() else (),
        "gpu": gpu,
        "storage": storage,
    }


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions

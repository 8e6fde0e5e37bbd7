"""What `doctor` makes of the instruction sets that nodes report."""

import platform

import pytest

from stl_ray.config import Experiment
from stl_ray.runtime.submission.node_check import NodeReport, _versions, disagreements


def node(host: str, *instruction_sets: str) -> NodeReport:
    return NodeReport(host, 2, 0, 8, platform.python_version(), _versions(), instruction_sets)


NODES = [node("new", "avx512", "avx2", "baseline"), node("old", "avx2", "baseline")]


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("auto", "the processors differ (avx2 and avx512)"),
        (
            "active_set/avx512",
            "old: solver.method is active_set/avx512, and the native core there may use avx2, baseline",
        ),
        ("active_set/avx2", ""),
        ("active_set/baseline", ""),
        ("admm", ""),
    ],
)
def test_instruction_sets_must_fit_the_method(method: str, problem: str) -> None:
    photographs = {"format": "photographs"}
    keys = {"name": "any", "root": "runs/any", "ingest": {"train": photographs, "test": photographs}}
    experiment = Experiment.model_validate({**keys, "solver": {"method": method}})
    problems = disagreements(NODES, experiment)
    assert len(problems) == bool(problem)
    assert all(found.startswith(problem) for found in problems)

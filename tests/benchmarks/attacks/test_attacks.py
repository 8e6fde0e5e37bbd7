"""The benchmarks of attacks on a few small images: that they run, and what their pages say."""

import importlib

import pytest

from benchmarks.attacks.peers import Match
from benchmarks.attacks.race import Entry, correct
from stl_ray.attacks import Budget


def match(minimum_norm: bool) -> Match:
    return Match("any", "", Budget(kind="l2", size=1.0), minimum_norm, {})


def entry(success=1.0, l2=0.1, over=0.0) -> Entry:
    return Entry([1.0], success, l2, over)


def test_identity_who_may_be_compared():
    entries = {"best": entry(), "weak": entry(success=0.9), "over": entry(over=0.01), "far": entry(l2=0.2)}
    assert correct(match(False), entries, 64) == {"best", "far"}
    assert correct(match(True), entries, 64) == {"best"}
    assert correct(match(False), {"best": entry(), "near": entry(success=1 - 1 / 64)}, 64) == {"best", "near"}


@pytest.mark.slow
def test_roundtrip_the_gpu_benchmark_runs_on_a_cpu(tmp_path):
    module = importlib.import_module("benchmarks.attacks.gpu")
    page = tmp_path / "page.md"
    arguments = ["--device", "cpu", "--network", "cifar_resnet20", "--size", "32", "--images", "2", "--defended", "1"]
    assert module.main([*arguments, "--output", str(page)]) == 0
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ") and "Attack" not in line]
    assert len(rows) == len(module.OPTIONS) + 2 + 1
    assert "exact" in rows[-2] and "bpda" in rows[-1]

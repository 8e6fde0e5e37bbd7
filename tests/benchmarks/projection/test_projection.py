"""The benchmark runs and says something; how fast anything is, no test can tell."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sporco")

from benchmarks.projection.__main__ import main

ROOT = Path(__file__).resolve().parents[3]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.projection", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("results") / "page.md"
    printed = run("--quick", "--sizes", "32", "--images", "2", "--output", str(output)).stdout
    assert output.read_text(encoding="utf-8").strip() == printed.strip()
    return printed


def rows(page: str, heading: str) -> list[dict[str, str]]:
    """The table under a heading, one dictionary for each row."""
    lines = [line for line in page.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines() if line.startswith("|")]
    header, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(header, row, strict=True)) for row in body]


def numbers(cell: str) -> list[float]:
    return [float(part) for part in cell.replace("(", " ").replace(")", " ").replace("/", " ").split()]


@pytest.mark.faults
def test_identity_every_table_has_every_contestant(page: str) -> None:
    for heading in ("Time", "Accuracy", "Clean and noisy images", "Memory"):
        methods = [row["Method"] for row in rows(page, heading)]
        assert methods[0] == "SPORCO, as published"
        assert {"default", "reference"} <= {method.split(", ")[1] for method in methods[1:]}
        assert "admm, default" in methods


@pytest.mark.faults
def test_identity_ratios_errors_and_memory_are_numbers(page: str) -> None:
    for row in rows(page, "Time"):
        assert row["Images"] == row["On"] == "2"
        ratios = numbers(row["SPORCO / it, median (least)"])
        found = [*ratios, *numbers(row["ms, median (worst)"]), *numbers(row["Images/s per core"])]
        assert all(math.isfinite(value) and value > 0 for value in found)
        assert ratios == sorted(ratios, reverse=True)
    for row in rows(page, "Accuracy"):
        assert row["On"] == "2"
        image = numbers(row["T, median / worst"])
        high = numbers(row["High band, median / worst"])
        assert all(0 < error < 1 for error in (*image, *high))
        assert high[0] > image[0]
    for row in rows(page, "Two threads"):
        assert float(row["Two threads"]) > 0
        assert float(row["Two processes"]) > 0
    memory = [float(row["First image, MB"]) for row in rows(page, "Memory")]
    # SPORCO holds at least ten arrays of 64 maps, 0.26 MB each; a process that imports torch has 200 MB before it starts.
    assert 2 < memory[0] < 200
    assert all(0 <= value < 200 for value in memory)


@pytest.mark.faults
def test_identity_our_tiers_keep_their_accuracy_there_too(page: str) -> None:
    for row in rows(page, "Accuracy")[1:]:
        limit = 2e-2 if row["Method"].endswith("default") else 1e-2
        assert numbers(row["T, median / worst"])[1] <= limit


@pytest.mark.faults
def test_invariant_the_page_tells_nothing_of_this_machine(page: str) -> None:
    assert str(ROOT) not in page
    assert "/tmp" not in page


def test_identity_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "--peer-images" in text

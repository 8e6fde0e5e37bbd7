"""The benchmark of defenses runs, has every defense, and compares what is equally good."""

import subprocess
import sys
from pathlib import Path

import pytest

from stl_ray.defenses import DEFENSES

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("results") / "speed.md"
    command = [
        sys.executable,
        "-m",
        "benchmarks.defenses",
        "--quick",
        "--images",
        "2",
        "--sizes",
        "24",
        "--output",
        str(output),
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    assert output.read_text(encoding="utf-8").strip() == ran.stdout.strip()
    return ran.stdout


def rows_of(page: str, section: str) -> list[list[str]]:
    """The table of a section, without its header."""
    lines = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| 24 ")]


def test_invariant_every_defense_has_a_row_or_a_reason(page: str) -> None:
    names = {row[1] for row in rows_of(page, "Every defense")}
    absent = page.partition("Not here: ")[2].partition("\n")[0]
    for name in DEFENSES:
        assert (name in names) != (f"`{name}`" in absent), name
    assert {"jpeg", "tvm", "quilting", "d3", "magnet", "stl_cluster"} <= names


def test_identity_tvm_is_as_near_to_its_limit_as_its_original(page: str) -> None:
    rows = rows_of(page, "tvm")
    quality = {row[1]: row[5] for row in rows}
    ours, original = (float(quality[name]) for name in ("the solver of tvm, nothing missing", "scikit-image"))
    assert 0 < ours <= original < 0.02
    assert quality["tvm"] == quality["scikit-image, as many sweeps"]
    for row in rows:
        assert float(row[2]) * float(row[3]) == pytest.approx(1000, rel=0.02)


@pytest.mark.parametrize("section", ["Every defense", "tvm"])
def test_identity_the_ratio_is_to_the_method_that_is_named(page: str, section: str) -> None:
    rows = rows_of(page, section)
    milliseconds = {row[1]: float(row[2]) for row in rows}
    compared = [(row[1], *row[4].rstrip(")").split(" (")) for row in rows if "(" in row[4]]
    assert len(compared) >= 3
    for name, ratio, original in compared:
        assert float(ratio) == pytest.approx(milliseconds[original] / milliseconds[name], rel=0.02)

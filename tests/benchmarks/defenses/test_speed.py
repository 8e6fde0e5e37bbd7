"""The benchmark of defenses runs, and compares what is equally good."""

import subprocess
import sys
from pathlib import Path

import pytest

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


def test_identity_tvm_is_as_near_to_its_limit_as_its_original(page: str) -> None:
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| 24 ")]
    quality = {row[1]: row[5] for row in rows}
    ours, original = (float(quality[name]) for name in ("the solver of tvm, nothing missing", "scikit-image"))
    assert 0 < ours <= original < 0.02
    assert quality["tvm"] == quality["scikit-image, as many sweeps"]
    for row in rows:
        assert float(row[2]) * float(row[3]) == pytest.approx(1000, rel=0.02)


def test_identity_the_ratio_is_to_the_method_that_is_named(page: str) -> None:
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| 24 ")]
    milliseconds = {row[1]: float(row[2]) for row in rows}
    compared = [(row[1], *row[4].rstrip(")").split(" (")) for row in rows if "(" in row[4]]
    assert [name for name, *_ in compared] == ["the solver of tvm, nothing missing", "tvm", "tvm and its gradient"]
    for name, ratio, original in compared:
        assert float(ratio) == pytest.approx(milliseconds[original] / milliseconds[name], rel=0.02)

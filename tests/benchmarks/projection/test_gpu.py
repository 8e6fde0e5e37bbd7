"""The GPU benchmark runs, on the CPU through Triton's interpreter; it says nothing about a time there."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.faults
def test_identity_the_page_has_every_form(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    output = tmp_path / "page.md"
    command = [sys.executable, "-m", "benchmarks.projection.gpu", "--smoke", "--output", str(output)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    page = output.read_text(encoding="utf-8")
    assert page.strip() == ran.stdout.strip()
    table = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert [row[0] for row in table[2:]] == ["admm", "pointwise", "spatial", "spatial-half"]
    assert "2 of 2 optima certified" in page
    for row in table[2:]:
        # Two iterations are far from the optimum, and just as far in every form.
        assert row[2] == "2 / 2"
        assert 0 < float(row[5].split(" / ")[0]) < 0.3
        assert abs(float(row[5].split(" / ")[0]) / float(table[2][5].split(" / ")[0]) - 1) < 0.05

"""The benchmark runs and says something; what anything costs, no test can tell."""

import pytest

from benchmarks.attacks import white_box_cost


@pytest.mark.faults
def test_identity_a_row_for_every_network_and_mode(shared_data, tmp_path, capsys):
    output = tmp_path / "page.md"
    arguments = ["--data", str(shared_data), "--rounds", "1", "--images", "1", "--steps", "1", "--output", str(output)]
    assert white_box_cost.main(arguments) == 0
    printed = capsys.readouterr().out
    assert output.read_text(encoding="utf-8").strip() == printed.strip()
    rows = [
        line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("| ") and "---" not in line
    ]
    cases = [("none", "32"), ("cifar_resnet56", "32"), ("none", "224"), ("torchvision:resnet50", "224")]
    assert [(row[0], row[1], row[3]) for row in rows[1:]] == [
        (*case, mode) for case in cases for mode in white_box_cost.MODES
    ]
    assert all(row[5].startswith("1.00 [") for row in rows[1:] if row[3] == "BPDA")
    assert all(float(row[4]) > 0 for row in rows[1:])

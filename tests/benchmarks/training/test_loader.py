import pytest

from benchmarks.training import loader, loader_order


def test_identity_classes_per_batch_from_sorted_images():
    """All rows shuffled: 1000 (1 - (1 - 1/1000)^256), the occupancy of 256 draws."""
    assert loader_order.classes_per_batch(None) == pytest.approx(1000 * (1 - 0.999**256), rel=0.01)
    assert loader_order.classes_per_batch(1) < 2.5  # a row group has one class, or two
    assert loader_order.classes_per_batch(16) < 35


@pytest.mark.faults
def test_certificate_a_page_of_few_images(capsys):
    """Every contestant runs, on both codecs, and the ratio is that of its columns."""
    options = ["--images", "24", "--size", "32", "--batch", "8", "--loaders", "1", "--rounds", "1", "--seconds", "0.1"]
    assert loader.main(options) == 0
    page = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0] in ("jpeg", "png") and len(row) == 5]
    assert [row[:2] for row in rows] == [["jpeg", "1"], ["png", "1"]]
    for _, _, ours, theirs, ratio in rows:
        assert float(ratio) == pytest.approx(float(ours) / float(theirs), rel=0.02, abs=0.006)
    assert "Row groups, images/s" in page and "16 groups" in page

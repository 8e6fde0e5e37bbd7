from dataclasses import replace

import pytest

from stl_ray.report.blocks import Text
from stl_ray.report.inputs import read_inputs
from stl_ray.report.provenance import order_of_numbers, provenance, quarantine, timings
from stl_ray.report.records import Identical


@pytest.fixture
def inputs(experiment_root):
    return read_inputs(str(experiment_root))


def caveats(blocks):
    return [block.text for block in blocks if isinstance(block, Text) and block.kind == "caveat"]


def test_identity_every_session_has_its_row(inputs):
    resumed = inputs.sessions[2].model_copy(
        update={"outcome": "failed", "started": "2026-01-02T11:00:00+00:00", "seconds": 3725.0, "gpus": None}
    )
    (table,) = timings(replace(inputs, sessions=(*inputs.sessions, resumed)))
    assert [row[0].text for row in table.rows].count("project") == 2
    assert [cell.text for cell in table.rows[-1]] == [
        "project", "failed", "2026-01-02 11:00:00", "1 h 02 min", "2,100", "0.6", "2", "–", "x86_64, Linux",  # noqa: RUF001
    ]  # fmt: skip
    assert table.footnote == "Together 1 h 15 min."


def test_identity_quarantined_images_are_counted_with_reasons(inputs):
    text, table = quarantine(inputs)
    assert text.text == "Images set aside: 1."
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["ingest/test", "200", "1", "1 unreadable"], ["ingest/train", "1,600", "0", ""], ["project/stl-train", "1,600", "0", ""],
    ]  # fmt: skip


def test_identity_images_of_both_splits_are_said(inputs):
    counts = {"in_both": 1037, "test": 10_000, "repeats_in_train": 2, "repeats_in_test": 0, "first_ids": ["a"]}
    sessions = [
        inputs.sessions[0].model_copy(update={"identical": Identical.model_validate(c)})
        for c in ({**counts, "in_both": 3}, counts)
    ]
    found = quarantine(replace(inputs, sessions=(*sessions, *inputs.sessions)))
    assert caveats(found) == [
        "1,037 of 10,000 test images are also training images, pixel by pixel; "
        "2 of train and 0 of test repeat an image of their split."
    ]
    clean = sessions[0].model_copy(update={"identical": Identical.model_validate({**counts, "in_both": 0})})
    blocks = quarantine(replace(inputs, sessions=(clean,)))
    assert caveats(blocks) == [] and blocks[1].text.startswith("0 of 10,000 test images")


def test_certificate_mixed_commits_and_configurations_are_said(inputs):
    assert caveats(provenance(inputs)) == []
    changed = inputs.sessions[-1].model_copy(update={"commit": None, "config_digest": "00" * 32})
    found = caveats(provenance(replace(inputs, sessions=(*inputs.sessions[:-1], changed))))
    assert ["configuration" in text for text in found] == [True, False]
    assert ["commit" in text for text in found] == [False, True]
    # A session that was run again counts with its last run only.
    assert caveats(provenance(replace(inputs, sessions=(changed, *inputs.sessions)))) == []


def test_identity_different_versions_of_a_package_are_all_shown(inputs):
    other = inputs.sessions[0].model_copy(update={"versions": {"torch": "2.11.0"}})
    blocks = provenance(replace(inputs, sessions=(*inputs.sessions, other)))
    (versions,) = [block for block in blocks if getattr(block, "caption", "") == "Versions"]
    assert [[cell.text for cell in row] for row in versions.rows] == [
        ["stl-ray", "0.1.0"], ["torch", "2.15.0, 2.11.0"], ["ray", "2.60.0"],
    ]  # fmt: skip


def test_identity_the_order_of_classes_that_are_numbers_is_shown():
    numbers = [str(number) for number in range(12)]
    assert order_of_numbers(numbers) == "numbers (0, 1, 2, ...)"
    assert order_of_numbers(sorted(numbers)).startswith("text (0, 1, 10, ...), as torchvision's")
    assert order_of_numbers(numbers[::-1]).startswith("their source")
    assert order_of_numbers(["cat", "7"]) == ""

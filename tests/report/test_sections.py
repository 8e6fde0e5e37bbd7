from dataclasses import replace

import pytest

from stl_ray.config import Source
from stl_ray.report.blocks import Listing, Table, Text
from stl_ray.report.inputs import read_inputs
from stl_ray.report.sections import build_sections


@pytest.fixture
def inputs(experiment_root):
    """What the experiment holds, without the pictures, which take most of the time."""
    return replace(read_inputs(str(experiment_root)), gallery=(), dictionaries=None, curves=None, training={})


def section(inputs, anchor):
    return next(section for section in build_sections(inputs) if section.anchor == anchor)


def texts(section):
    return [block.text for block in section.blocks if isinstance(block, Text)]


def test_identity_the_first_paragraph_names_what_was_run(inputs):
    (text,) = texts(section(inputs, "run"))
    for phrase in ("photographs (1600 train images, 200 test images)", "4 clusters", "64 filters of 8 x 8", "small_cnn",
                   "JPEG, STL, STL (cluster)", "FGSM-0.08 (fgsm, dissimilarity 0.08)", "same 200 images"):  # fmt: skip
        assert phrase in text


def test_certificate_the_photographs_caveat_stands_only_beside_photographs(inputs):
    assert any("crops of ten photographs" in text for text in texts(section(inputs, "reading")))
    folder = Source(format="folder", path="images")
    ingest = inputs.experiment.ingest.model_copy(update={"train": folder, "test": folder})
    other = replace(inputs, experiment=inputs.experiment.model_copy(update={"ingest": ingest}))
    reading = texts(section(other, "reading"))
    assert not any("photographs" in text for text in reading)
    assert any("T1a" in text for text in reading) and any("Adaptive attacks" in text for text in reading)


def test_invariant_a_partly_finished_experiment_shows_what_it_has(experiment_root):
    (experiment_root / "evaluate" / "scores.json").unlink()
    inputs = read_inputs(str(experiment_root))
    sections = {section.anchor: section for section in build_sections(inputs)}
    assert "evaluate/scores.json" in texts(sections["vanilla"])[0]
    tables = [block for block in sections["vanilla"].blocks if isinstance(block, Table)]
    assert [table.caption for table in tables] == ["The paper's Table 5: CIFAR-10, vanilla VGG-16"]
    assert texts(sections["gallery"]) == texts(sections["filters"]) == texts(sections["curves"]) == []


def test_identity_scores_without_retraining_say_so(inputs):
    cells = tuple(cell for cell in inputs.scores.cells if cell.setting == "vanilla")
    inputs = replace(inputs, scores=inputs.scores.model_copy(update={"cells": cells}))
    assert texts(section(inputs, "retrained")) == ["The scores hold no cell of this setting."]


def test_identity_a_renamed_stl_defense_still_gets_its_verdict(inputs):
    defenses = tuple(
        item.model_copy(update={"name": "mine"}) if item.name == "stl" else item for item in inputs.experiment.defenses
    )
    cells = tuple(
        cell.model_copy(update={"defense": "mine"}) if cell.defense == "stl" else cell for cell in inputs.scores.cells
    )
    inputs = replace(
        inputs,
        experiment=inputs.experiment.model_copy(update={"defenses": defenses}),
        scores=inputs.scores.model_copy(update={"cells": cells}),
    )
    findings = [text.split(":")[0] for text in texts(section(inputs, "vanilla"))]
    assert findings == ["Vanilla classifier, mine", "Vanilla classifier, STL (cluster)"]


def test_identity_the_configuration_is_listed(inputs):
    (listing,) = [b for b in section(inputs, "provenance").blocks if isinstance(b, Listing)]
    assert '"name": "quickstart"' in listing.text

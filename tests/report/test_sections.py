from dataclasses import replace

import pytest

from stl_ray.config import Source
from stl_ray.report.blocks import Listing, Table, Text
from stl_ray.report.inputs import read_inputs
from stl_ray.report.sections import build_sections


@pytest.fixture
def inputs(experiment_root):
    """What the experiment holds, without the pictures, which take most of the time."""
    inputs = read_inputs(str(experiment_root))
    blocks = tuple(replace(block, gallery=()) for block in inputs.blocks)
    return replace(inputs, blocks=blocks, spaces=(), training={})


def section(inputs, anchor):
    return next(section for section in build_sections(inputs) if section.anchor == anchor)


def with_scores(inputs, **changes):
    (block,) = inputs.blocks
    return replace(inputs, blocks=(replace(block, scores=block.scores.model_copy(update=changes)),))


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


def test_identity_the_tier_of_a_cell_is_what_the_reader_is_told(inputs):
    cells = tuple(
        cell if cell.attack == "clean" else cell.model_copy(update={"threat": "T3"})
        for cell in inputs.blocks[0].scores.cells
    )
    inputs = with_scores(inputs, cells=cells)
    reading = texts(section(inputs, "reading"))
    assert any(text.startswith("Threat tier T3") for text in reading) and not any("T1a" in text for text in reading)
    table = section(inputs, "psnr").blocks[-1]
    tier = table.columns.index("Tier")
    assert {(row[1].text == "Clean", row[tier].text) for row in table.rows} == {(True, "T0"), (False, "T3")}


def test_invariant_a_partly_finished_experiment_shows_what_it_has(experiment_root):
    (experiment_root / "evaluate" / "vanilla" / "scores.json").unlink()
    inputs = read_inputs(str(experiment_root))
    sections = {section.anchor: section for section in build_sections(inputs)}
    assert "evaluate/CLASSIFIER/scores.json" in texts(sections["vanilla"])[0]
    tables = [block for block in sections["vanilla"].blocks if isinstance(block, Table)]
    assert [table.caption for table in tables] == ["The paper's Table 5: CIFAR-10 at 32 px, vanilla VGG-16"]
    assert texts(sections["curves"]) == [] and not sections.keys() & {"retrained", "gallery", "psnr"}
    assert not any(text.startswith("Not here yet") for text in texts(sections["space-natural"]))


def test_identity_scores_without_retraining_have_no_section_of_it(inputs):
    cells = tuple(cell for cell in inputs.blocks[0].scores.cells if cell.setting == "vanilla")
    inputs = with_scores(inputs, cells=cells)
    assert "retrained" not in [section.anchor for section in build_sections(inputs)]


def test_identity_a_renamed_stl_defense_still_gets_its_verdict(inputs):
    defenses = tuple(
        item.model_copy(update={"name": "mine"}) if item.name == "stl" else item for item in inputs.experiment.defenses
    )
    cells = tuple(
        cell.model_copy(update={"defense": "mine"}) if cell.defense == "stl" else cell
        for cell in inputs.blocks[0].scores.cells
    )
    experiment = inputs.experiment.model_copy(update={"defenses": defenses})
    inputs = with_scores(replace(inputs, experiment=experiment), cells=cells)
    findings = [text.split(":")[0] for text in texts(section(inputs, "vanilla"))]
    assert findings == ["Vanilla classifier, mine", "Vanilla classifier, STL (cluster)"]


def test_identity_the_configuration_is_listed(inputs):
    (listing,) = [b for b in section(inputs, "provenance").blocks if isinstance(b, Listing)]
    assert '"name": "quickstart"' in listing.text


def test_identity_what_the_attacks_did_stands_under_the_accuracies(inputs):
    anchors = [section.anchor for section in build_sections(inputs)]
    assert anchors[anchors.index("retrained") + 1] == "attacks"
    for without in (with_scores(inputs, attacks={}), replace(inputs, blocks=())):
        assert "attacks" not in [section.anchor for section in build_sections(without)]


def test_certificate_solves_that_did_not_converge_are_counted(inputs):
    table = section(inputs, "psnr").blocks[-1]
    assert "Not converged" not in table.columns and "Not converged" not in table.footnote
    first, *others = inputs.blocks[0].scores.cells
    first = first.model_copy(update={"statuses": {"converged": 195, "diverged": 1, "max_iterations": 4}})
    table = section(with_scores(inputs, cells=(first, *others)), "psnr").blocks[-1]
    assert table.columns[-1] == "Not converged" and "Not converged" in table.footnote
    assert [row[-1].text for row in table.rows[:2]] == ["1 diverged, 4 max iterations", "–"]  # noqa: RUF001


def test_identity_a_gallery_of_no_images_is_not_a_missing_one(inputs):
    assert texts(section(inputs, "gallery")) == ["No images were asked for (evaluate.gallery: 0)."]
    (block,) = inputs.blocks
    (text,) = texts(section(replace(inputs, blocks=(replace(block, gallery=None),)), "gallery"))
    assert text.startswith("Not here yet: evaluate/CLASSIFIER/gallery.parquet")


@pytest.mark.parametrize(("size", "shown"), [(None, 1), (32, 1), (224, 0)])
def test_certificate_the_papers_tables_stand_only_beside_images_of_their_size(inputs, size, shown):
    ingest = inputs.experiment.ingest.model_copy(update={"size": size})
    inputs = replace(inputs, experiment=inputs.experiment.model_copy(update={"ingest": ingest}))
    for setting, scored in (("vanilla", inputs.blocks), ("retrained", inputs.blocks), ("vanilla", ())):
        blocks = section(replace(inputs, blocks=scored), setting).blocks
        captions = [block.caption for block in blocks if isinstance(block, Table) and "paper's" in block.caption]
        assert len(captions) == shown
        assert all("CIFAR-10 at 32 px" in caption and "VGG-16" in caption for caption in captions)

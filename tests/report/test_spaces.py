"""Which spaces the page shows, and those that lie elsewhere."""

import json
import shutil

import numpy as np
import pytest

from stl_ray.report.blocks import Figure, Text
from stl_ray.report.inputs import read_inputs
from stl_ray.report.learning import space_blocks
from stl_ray.report.sections import build_sections


@pytest.fixture
def read_with(experiment_root, bank, tmp_path):
    """Reads the experiment with other spaces and defenses; an authors' file and a space of theirs lie beside."""
    np.save(tmp_path / "6_p8_lm0.3.npy", bank.transpose(2, 3, 1, 0)[:, :, ::-1])
    shutil.copytree(experiment_root / "spaces" / "natural", tmp_path / "elsewhere" / "spaces" / "natural")

    def make(spaces, *options):
        path = experiment_root / "experiment.json"
        defenses = [{"name": f"d{n}", "defense": "stl", "options": own} for n, own in enumerate(options)]
        path.write_text(json.dumps({**json.loads(path.read_text()), "spaces": spaces, "defenses": defenses}))
        return read_inputs(str(experiment_root))

    return make


def test_identity_the_page_has_a_section_for_each_space_that_a_defense_uses(read_with, tmp_path):
    spaces = [
        {"name": "natural"},
        {"name": "idle"},
        {"name": "authors", "load": str(tmp_path / "6_p8_lm0.3.npy")},
        {"name": "other", "load": str(tmp_path / "elsewhere")},
    ]
    inputs = read_with(spaces, {"space": "other"}, {"space": "authors"}, {"space": "natural"}, {"space": "other"})
    sections = {section.anchor: section for section in build_sections(inputs)}
    shown = [anchor for anchor in sections if anchor.startswith("space")]
    assert shown == ["space-natural", "space-authors", "space-other"]
    figures = [block.name for anchor in shown for block in sections[anchor].blocks if isinstance(block, Figure)]
    assert {"space-natural-filters", "space-authors-filters", "space-other-filters"} < set(figures)
    assert len(figures) == len(set(figures))
    (what,) = (block.text for block in sections["run"].blocks)
    assert f"Space authors: loaded from {tmp_path}/6_p8_lm0.3.npy. " in what and "idle" not in what


def test_agrees_with_the_filters_of_the_authors_file(read_with, bank, tmp_path):
    (space,) = read_with([{"name": "authors", "load": str(tmp_path / "6_p8_lm0.3.npy")}], {}).spaces
    np.testing.assert_array_equal(space.stored.universal, bank)
    assert (space.stored.record.lmbda, space.stored.record.norm, space.stored.clustered) == (0.3, "joint", False)
    assert space.stored.provenance.imported.file == "6_p8_lm0.3.npy"


@pytest.mark.parametrize("place", ["nowhere", "nothing_p8_lm0.2.npy"])
def test_invariant_a_space_that_cannot_be_read_from_here_is_said_to_be_missing(read_with, tmp_path, place):
    (space,) = read_with([{"name": "a", "load": str(tmp_path / place)}], {}).spaces
    texts = [block for block in space_blocks(space) if isinstance(block, Text)]
    assert texts[0].text == f"Loaded from {tmp_path}/{place}."
    assert texts[1].kind == "missing" and texts[1].text.startswith(f"It cannot be read from here: {tmp_path}/{place}: ")
    assert not any(isinstance(block, Figure) for block in space_blocks(space))


def test_identity_without_a_defense_that_projects_there_is_no_section(read_with):
    inputs = read_with([{"name": "natural"}])
    assert inputs.spaces == () and not any(s.anchor.startswith("space") for s in build_sections(inputs))

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stl_ray.errors import StorageError
from stl_ray.report.charts import to_png
from stl_ray.report.pictures import filter_atlas
from stl_ray.report.portrait import candidate_table, portray
from stl_ray.report.space import KIND, VERSION, Provenance, StoredSpace, read_space
from stl_ray.store import save_artifact


@pytest.fixture
def space(parts, tmp_path) -> StoredSpace:
    save_artifact(str(tmp_path / "space"), KIND, VERSION, *parts)
    return read_space(str(tmp_path / "space"))


@pytest.fixture
def imported(space) -> StoredSpace:
    """The unclustered space of one of the authors' dictionaries."""
    imported = {"file": "64_p8_lm0.2.npy", "sha256": "12" * 32}
    record = space.record.model_copy(
        update={"side": None, "neighbours": None, "sizes": None, "resolution": None, "dictionary_lmbdas": (0.2,)}
        | {"provenance": Provenance.model_validate({"imported": imported})}
    )
    return replace(
        space, dictionaries=space.universal[None], samples=None, references=None, pca_dimensions=None, record=record
    )


def test_identity_the_facts_name_every_hyper_parameter(space):
    facts = portray(space).facts
    assert facts["digest"] == "ab" * 32
    assert facts["artifact"] == f"version 2, digest {space.digest}"
    assert facts["filters"] == "K = 64 of S = 8 x 8 pixels, C = 3 channels, joint norm"
    assert facts["lambda"] == "0.2"
    assert facts["resolution"] == "32 pixels"
    assert facts["training images"] == "1,600"
    assert facts["clusters"] == "M = 4, of 412, 388, 501, 299 training images"
    assert facts["vote"] == "k = 15 nearest of 1,600 reference latents of 20 PCA dimensions"
    assert facts["autoencoder"] == (
        "32 x 32 pixels, 20 epochs, validation loss 0.5200, denoised images of 21.75 dB from noisy ones of 17.25 dB"
    )
    assert facts["fitted"] == f"seed 7, dataset {'ef' * 32}"


def test_identity_lambdas_that_differ_are_all_named(space):
    record = space.record.model_copy(update={"lmbda": 0.15, "dictionary_lmbdas": (0.3, 0.2, 0.2, 0.2)})
    assert portray(replace(space, record=record)).facts["lambda"] == "0.15; learned at 0.2, 0.3"


def test_identity_every_dictionary_has_its_row(space):
    table = portray(space).tables[0]
    assert [row[0].text for row in table.rows] == ["universal", "cluster 0", "cluster 1", "cluster 2", "cluster 3"]
    assert [cell.text for cell in table.rows[0][1:]] == ["consensus", "200", "20", "yes", "4.25", "2.15%", "28.50"]
    assert table.rows[4][table.columns.index("Converged")].text == "no"
    assert "32 held-out images" in table.footnote


def test_identity_the_chosen_number_of_clusters_stands_out(space):
    candidates = space.provenance.clusters.candidates
    table = candidate_table(candidates, 4)
    assert [row[0].text for row in table.rows if row[0].strong] == ["4"]
    assert [cell.text for cell in table.rows[1]] == ["3", "30", "0.275", "533", "533"]
    assert not any(row[0].strong for row in candidate_table(candidates, 5).rows)


def test_identity_the_figures_are_written_beside_each_other(space, tmp_path):
    paths = [Path(path) for path in portray(space).save_figures(str(tmp_path / "out"))]
    assert [path.name for path in paths] == ["filters.png", "clusters.png", "candidates.png"]
    for path in paths:
        assert path.parent == tmp_path / "out"
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            assert image.format == "PNG"


def test_invariant_an_imported_dictionary_leaves_out_what_it_does_not_have(imported):
    portrait = portray(imported)
    assert list(portrait.facts) == ["digest", "artifact", "filters", "lambda", "clusters", "imported from"]
    assert portrait.facts["clusters"] == "none: one dictionary for every image"
    assert portrait.facts["imported from"].startswith("file 64_p8_lm0.2.npy, sha256 1212")
    assert portrait.tables == ()
    (figure,) = portrait.figures
    assert figure.name == "filters" and "the one dictionary of this space" in figure.caption
    none = imported.dictionaries[:0]
    assert figure.png == to_png(filter_atlas, imported.universal, none, ())


def test_invariant_a_space_that_says_nothing_of_itself_is_shown_all_the_same(parts, tmp_path):
    arrays = {name: parts[0][name] for name in ("universal", "dictionaries", "reference_latents")}
    save_artifact(str(tmp_path), KIND, VERSION, arrays, {})
    portrait = portray(read_space(str(tmp_path)))
    assert list(portrait.facts) == ["artifact", "filters", "clusters"]
    assert portrait.facts["clusters"] == "M = 4"
    assert [figure.name for figure in portrait.figures] == ["filters"]


def test_invariant_filters_of_two_channels_are_described_without_pictures(imported):
    filters = imported.universal[:, :2]
    portrait = portray(replace(imported, universal=filters, dictionaries=filters[None]))
    assert "C = 2 channels" in portrait.facts["filters"]
    assert portrait.figures == ()


def test_invariant_of_many_clusters_the_first_are_shown_and_the_caption_says_so(space):
    many = np.repeat(space.dictionaries[:1, :4], 30, axis=0)
    samples = np.repeat(space.samples[:1, :2], 30, axis=0)
    portrait = portray(replace(space, universal=many[0], dictionaries=many, samples=samples))
    for figure in portrait.figures[:2]:
        assert figure.caption.endswith("The first 19 of 30 clusters.")


def test_refuses_a_folder_that_cannot_be_written_to(space, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="file"):
        portray(space).save_figures(str(tmp_path / "file"))

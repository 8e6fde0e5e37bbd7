import numpy as np
import pytest

from stl_ray.errors import ArtifactError
from stl_ray.report.space import KIND, VERSION, read_space
from stl_ray.store import save_artifact


def _saved(folder, arrays, meta):
    save_artifact(str(folder), KIND, VERSION, arrays, meta)
    return read_space(str(folder))


def test_roundtrip_a_space_is_read_with_how_it_was_made(parts, tmp_path):
    space = _saved(tmp_path, *parts)
    assert space.clustered
    assert (space.references, space.pca_dimensions) == (1600, 20)
    np.testing.assert_array_equal(space.samples, parts[0]["samples"])
    assert space.record.neighbours == 15
    assert space.provenance.autoencoder.noisy_psnr == 17.25
    assert space.provenance.dictionaries["cluster_3"].converged is False
    assert [row.clusters for row in space.provenance.clusters.candidates] == [2, 3, 4, 6, 8]


def test_agrees_with_the_room_that_writes_spaces():
    from stl_ray.space import storage

    assert (KIND, VERSION) == (storage.KIND, storage.VERSION)


@pytest.mark.parametrize(
    "provenance", [{}, {"images": "many", "autoencoder": "mine", "clusters": [], "dictionaries": 3}, "a note", None]
)
def test_invariant_a_record_of_ones_own_is_taken_for_absent(parts, tmp_path, provenance):
    arrays, meta = parts
    made = _saved(tmp_path, arrays, meta | {"provenance": provenance}).provenance
    assert made.images is made.autoencoder is made.clusters is made.dictionaries is None


def test_invariant_what_can_be_read_of_a_record_is_kept(parts, tmp_path):
    arrays, meta = parts
    provenance = {"images": 7, "autoencoder": {"psnr": 20.5, "epochs": "a few"}, "dictionaries": {"universal": {}}}
    made = _saved(tmp_path, arrays, meta | {"provenance": provenance}).provenance
    assert (made.images, made.autoencoder.psnr, made.autoencoder.epochs) == (7, 20.5, None)
    assert made.dictionaries["universal"].method is None


def test_refuses_an_artifact_without_dictionaries(tmp_path):
    with pytest.raises(ArtifactError, match="not a space; expected arrays universal and dictionaries; got weight"):
        _saved(tmp_path, {"weight": np.zeros(2, np.float32)}, {})

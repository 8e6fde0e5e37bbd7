"""Perturbations before and behind a defense, by hand, by Parseval, and whatever the batch."""

import math

import pyarrow as pa
import pytest
import torch

from stl_ray.defenses import Defended, make_defense
from stl_ray.evaluation import PERTURBATIONS_SCHEMA, perturbation_scores, perturbations
from stl_ray.evaluation.perturbations import BINS, spectrum
from stl_ray.images import quantize
from stl_ray.models import build_classifier, penultimate
from stl_ray.statistics import wilson

IDS = [f"test/{number}" for number in range(6)]


@pytest.fixture
def clean(natural_images):
    return quantize(natural_images[:6])


@pytest.fixture
def attacked(clean):
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return quantize(clean + 0.05 * noise)


@pytest.fixture(scope="module")
def models():
    """A mean filter in front of a classifier, and the classifier alone."""
    classifier = build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()
    return [Defended(classifier, make_defense(name, {}, {}), "none") for name in ("mean_filter", "none")]


def test_certificate_the_parts_of_a_spectrum_are_the_squared_dissimilarity(clean, attacked):
    for side in (32, 27):
        differences, reference = (attacked - clean)[..., :side], clean[..., :side]
        found = spectrum(differences, reference)
        expected = differences.double().square().sum((1, 2, 3)) / reference.double().square().sum((1, 2, 3))
        assert found.shape == (6, BINS)
        torch.testing.assert_close(found.sum(1), expected, rtol=1e-12, atol=0)
    assert not spectrum(attacked, torch.zeros_like(clean)).any()


@pytest.mark.parametrize(("cycles", "expected"), [((0, 0), 0), ((1, 0), 1), ((0, 5), 5), ((3, 4), 5), ((16, 16), 15)])
def test_identity_a_wave_is_in_the_bin_of_its_frequency(cycles, expected):
    row, column = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    wave = torch.cos(2 * math.pi * (cycles[0] * row + cycles[1] * column) / 32).expand(1, 3, 32, 32)
    found = spectrum(wave, wave)[0]
    assert float(found[expected]) == pytest.approx(1) and int((found > 1e-12).sum()) == 1


def test_certificate_by_hand_of_a_linear_defense(models, clean, attacked):
    model, undefended = models
    rows = perturbations(model, undefended, attacked, clean, IDS)
    seen, clean_seen = (quantize(model.defense.purify(x, seeds=[0] * 6).images) for x in (attacked, clean))
    for row, found in enumerate(pa.Table.from_pylist(rows, schema=PERTURBATIONS_SCHEMA).to_pylist()):
        for key, x, y in (("before", attacked, clean), ("behind", seen, clean_seen)):
            features = [penultimate(model.classifier, batch)[row].double() for batch in (x, y)]
            assert found[f"image_{key}"] == pytest.approx(float((x[row] - y[row]).norm() / y[row].norm()), rel=1e-5)
            expected = float((features[0] - features[1]).norm() / features[1].norm())
            assert found[f"features_{key}"] == pytest.approx(expected, rel=1e-5)
            assert sum(found[f"spectrum_{key}"]) == pytest.approx(found[f"image_{key}"] ** 2, rel=1e-5)
        assert found["image_behind"] < found["image_before"]  # a mean of nine takes most of white noise away
        assert found["cluster"] == found["clean_cluster"] == -1


def test_identity_of_images_in_float32_the_rounding_is_no_part_of_the_defense(models, clean):
    """Less than half a level is nothing to the deployed pipeline, with or without a defense."""
    undefended = models[1]
    (row, *_) = perturbations(undefended, undefended, (clean + 0.4 / 255).clamp(0, 1), clean, IDS)
    assert row["image_before"] == row["image_behind"] == row["features_before"] == row["features_behind"] == 0


def test_invariant_a_row_does_not_depend_on_the_batch(models, clean, attacked):
    whole = perturbations(*models, attacked, clean, IDS)
    assert perturbations(*models, attacked[3:5], clean[3:5], IDS[3:5]) == whole[3:5]


def test_certificate_scores_are_quartiles_and_shares():
    def row(before, behind, features, cluster, clean_cluster):
        return {"id": f"{before}-{behind}", "image_before": before, "image_behind": behind, "features_before": features,
                "spectrum_before": [before] * BINS, "spectrum_behind": [behind] * BINS, "cluster": cluster,
                "clean_cluster": clean_cluster}  # fmt: skip

    def scored(*rows):
        return perturbation_scores({("d", "a"): pa.Table.from_pylist([*rows], schema=PERTURBATIONS_SCHEMA)})

    # One solve diverged, and one image is not in the set.
    diverged, missing = row(0.4, math.nan, 4.0, 2, 2), {"id": "missing"}
    (found,) = scored(row(0.1, 0.05, 1.0, 0, 0), row(0.2, 0.3, 2.0, 1, 0), row(0.3, 0.1, 3.0, 1, 1), diverged, missing)
    assert (found["defense"], found["attack"], found["images"]) == ("d", "a", 3)
    assert found["image_before"] == pytest.approx([0.15, 0.2, 0.25])
    assert found["features_before"] == [1.5, 2.0, 2.5] and found["features_behind"] is None
    assert tuple(found["smaller"].values()) == (2, 3, *wilson(2, 3))
    assert tuple(found["cluster_kept"].values()) == (2, 3, *wilson(2, 3))
    assert found["spectrum_behind"] == pytest.approx([0.15] * BINS)
    (none,) = scored(row(0.1, 0.1, None, -1, -1))
    assert none["cluster_kept"] is None and none["features_before"] is None and none["smaller"]["count"] == 0
    (empty,) = scored(missing)
    assert empty["images"] == 0 and empty["image_before"] is None and empty["spectrum_before"] is None
    assert perturbation_scores({}) == []

import json

import numpy as np
import pytest
import torch
from skimage import data

from stl_ray.config.spaces import AutoencoderConfig, DictionaryConfig, FitConfig
from stl_ray.csc import Dictionary
from stl_ray.errors import ArtifactError, DictionaryError, TensorError, TrainingError
from stl_ray.space import QuasiNaturalSpace, thumbnails
from stl_ray.space.pretrained import save_autoencoder
from stl_ray.training import Clustering, LearnedDictionary, assemble, fit_space

SMALL = DictionaryConfig(method="consensus", filters=16, images=16, holdout=8, block=7, iterations=2)
CONFIG = FitConfig(
    clusters=2, candidates=(3,), neighbours=5, restarts=2, autoencoder=AutoencoderConfig(epochs=3), dictionary=SMALL
)
IDS = [f"crop/{i:02d}" for i in range(60)]
NAMES = ["universal", "cluster_0", "cluster_1"]


def changed(**dictionary) -> FitConfig:
    return CONFIG.model_copy(update={"dictionary": SMALL.model_copy(update=dictionary)})


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """(60, 3, 32, 32) crops of three photographs: every other one dark, the others bright, so that there are clusters."""
    generator = np.random.default_rng(1)
    crops = []
    for photograph in (data.astronaut(), data.coffee(), data.chelsea()):
        for _ in range(20):
            top, left = (int(generator.integers(0, side - 64)) for side in photograph.shape[:2])
            crops.append(photograph[top : top + 64 : 2, left : left + 64 : 2].astype(np.float32) / 255)
    images = 0.5 * torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()
    images[1::2] = 1 - images[1::2]
    return images


@pytest.fixture(scope="module")
def reported() -> list[str]:
    """What `space` reports while it is fitted."""
    return []


@pytest.fixture(scope="module")
def space(images, reported) -> QuasiNaturalSpace:
    return fit_space(images, IDS, CONFIG, seed=0, report=reported.append)


@pytest.fixture(scope="module")
def pretrained(space, tmp_path_factory) -> str:
    """The folder of the autoencoder of `space`; with it a fit takes half the time."""
    folder = str(tmp_path_factory.mktemp("autoencoder"))
    save_autoencoder(folder, space.router.autoencoder, dict(space.provenance["autoencoder"]))
    return folder


def with_pretrained(config: FitConfig, folder: str, **keys) -> FitConfig:
    return config.model_copy(update={"autoencoder": AutoencoderConfig(pretrained=folder, **keys)})


def test_certificate_fit_space_gives_a_space_that_projects(space, images):
    assert len(space.dictionaries) == 2
    assert space.resolution == 32 and space.lmbda == SMALL.lmbda
    dictionaries = (space.universal_dictionary, *space.dictionaries)
    assert all(dictionary.filters.shape == (16, 3, 8, 8) for dictionary in dictionaries)
    assert all(dictionary.norm == "joint" and dictionary.lmbda == SMALL.lmbda for dictionary in dictionaries)
    assert all(float(dictionary.filters.mean((2, 3)).abs().max()) < 1e-6 for dictionary in dictionaries)
    assert len({dictionary.digest for dictionary in dictionaries}) == 3
    projection = space.project(images[::5], exclude=IDS[::5])
    assert projection.images.min() >= 0 and projection.images.max() <= 1
    assert set(projection.clusters.tolist()) == {0, 1}
    assert 0 < projection.sparsity.max() < 0.5
    # Something is taken away, and it is little beside what there is.
    change = (projection.images - images[::5]).square().mean((1, 2, 3))
    assert change.min() > 0 and (change < 0.2 * images[::5].var((1, 2, 3))).all()


def test_identity_the_provenance_says_how_the_space_was_made(space, images):
    made = space.provenance
    assert json.loads(json.dumps(made)) == made
    assert set(made) == {"fit", "seed", "images", "autoencoder", "clusters", "dictionaries"}
    assert FitConfig.model_validate(made["fit"], strict=False) == CONFIG
    assert (made["seed"], made["images"]) == (0, 60)
    assert made["autoencoder"]["epochs"] == 3
    assert set(made["autoencoder"]) == {"epochs", "validation_loss", "psnr", "noisy_psnr"}
    assert made["clusters"]["sizes"] == list(space.router.clusters.sizes)
    assert [row["clusters"] for row in made["clusters"]["candidates"]] == [2, 3]
    assert list(made["dictionaries"]) == NAMES
    for name, row in made["dictionaries"].items():
        size = 60 if name == "universal" else made["clusters"]["sizes"][NAMES.index(name) - 1]
        assert (row["images"], row["holdout"]) == (16, min(8, size // 5))
        assert (row["method"], row["iterations"], row["converged"]) == ("consensus", 2, False)
        assert row["objective"] > 0 and 0 < row["sparsity"] < 0.5 and 20 < row["psnr"] < 60


def test_identity_samples_are_images_of_their_cluster(space, images):
    assert torch.equal(space.router.latents(images), space.router.clusters.latents)
    small = thumbnails(images, 32)
    assert space.samples.dtype == torch.uint8 and space.samples.shape[0] == 2
    for cluster, shown in enumerate(space.samples):
        for sample in shown:
            (place,) = (small == sample).flatten(1).all(dim=1).nonzero()[:, 0].tolist()
            assert int(space.router.clusters.labels[place]) == cluster


def test_identity_every_epoch_and_iteration_is_reported(space, reported):
    assert len(reported) == 3 + 1 + 2 * 3
    assert reported[0].startswith("autoencoder epoch 1: loss ")
    assert reported[3] == f"clusters of {', '.join(map(str, space.router.clusters.sizes))} images"
    for line, name in zip(reported[5::2], NAMES, strict=True):
        objective = space.provenance["dictionaries"][name]["objective"]
        assert line == f"{name} iteration 2: held-out objective {objective:.4g}"


def test_invariant_the_same_seed_fits_the_same_space(space, images, pretrained):
    assert fit_space(images, IDS, CONFIG, seed=0).digest == space.digest
    # Another seed changes what comes after the autoencoder too.
    config = with_pretrained(CONFIG, pretrained)
    other = fit_space(images, IDS, config, seed=1)
    assert other.universal_dictionary.digest != space.universal_dictionary.digest


def test_identity_a_pretrained_autoencoder_is_taken_as_it_is(space, images, pretrained):
    reported = []
    again = fit_space(images, IDS, with_pretrained(CONFIG, pretrained), seed=0, report=reported.append)
    assert again.digest == space.digest
    assert again.provenance["autoencoder"] == space.provenance["autoencoder"]
    assert not any("epoch" in line for line in reported)


def test_refuses_a_pretrained_autoencoder_of_another_side_or_none(images, pretrained, tmp_path):
    with pytest.raises(TensorError, match="the autoencoder sees one size"):
        fit_space(images, IDS, with_pretrained(CONFIG, pretrained, side=64), seed=0)
    with pytest.raises(ArtifactError, match="no readable autoencoder artifact"):
        fit_space(images, IDS, with_pretrained(CONFIG, str(tmp_path)), seed=0)


@pytest.mark.parametrize("method", ["consensus", "online"])
def test_certificate_both_methods_lower_the_objective(images, pretrained, method):
    def fitted(iterations):
        config = changed(method=method, iterations=iterations, filters=8, images=48)
        return fit_space(images, IDS, with_pretrained(config, pretrained), seed=0)

    first, last = fitted(1).provenance["dictionaries"], fitted(6).provenance["dictionaries"]
    for name in NAMES:
        assert first[name]["method"] == last[name]["method"] == method
        assert (first[name]["iterations"], last[name]["iterations"]) == (1, 6)
        assert last[name]["objective"] < first[name]["objective"]


def test_roundtrip_filters_of_unit_norm_in_every_channel(images, pretrained, tmp_path):
    config = with_pretrained(changed(norm="per_channel", lmbda=0.35), pretrained)
    fit_space(images, IDS, config, seed=0).save(str(tmp_path))
    assert json.loads((tmp_path / "space.json").read_text())["meta"]["norm"] == "per_channel"
    loaded = QuasiNaturalSpace.load(str(tmp_path))
    for dictionary in (loaded.universal_dictionary, *loaded.dictionaries):
        assert dictionary.norm == "per_channel" and dictionary.lmbda == 0.35
        torch.testing.assert_close(dictionary.filters.flatten(2).norm(dim=2), torch.ones(16, 3))
    assert loaded.lmbda == 0.35


def test_identity_filters_may_keep_their_mean(images, pretrained):
    fitted = fit_space(images, IDS, with_pretrained(changed(zero_mean=False), pretrained), seed=0)
    for dictionary in (fitted.universal_dictionary, *fitted.dictionaries):
        assert float(dictionary.filters.mean((2, 3)).abs().max()) > 1e-3


def test_roundtrip_a_fitted_space(space, images, tmp_path):
    space.save(str(tmp_path))
    loaded = QuasiNaturalSpace.load(str(tmp_path))
    assert loaded.digest == space.digest
    assert loaded.provenance == space.provenance and torch.equal(loaded.samples, space.samples)
    stored, made = (each.project(images[:8]) for each in (loaded, space))
    for field in ("images", "clusters", "status", "iterations", "sparsity"):
        assert torch.equal(getattr(stored, field), getattr(made, field))


def learned(dictionary: Dictionary) -> LearnedDictionary:
    figures = dict.fromkeys(("holdout_objective", "sparsity", "psnr"), 1.0)
    return LearnedDictionary(dictionary, [{"iteration": 9, "converged": True, **figures}], images=16, holdout=8)


def strata_of(space) -> Clustering:
    clusters = space.router.clusters
    return Clustering(space.router, clusters.labels, torch.zeros((2, 1), dtype=torch.int64), [{"clusters": 2}])


def test_identity_assemble_puts_every_dictionary_at_its_cluster(space):
    universal = Dictionary(space.universal_dictionary.filters, 0.3)
    made = {"cluster_1": space.dictionaries[1], "cluster_0": space.dictionaries[0], "universal": universal}
    parts = {name: learned(dictionary) for name, dictionary in made.items()}
    again = assemble(
        strata_of(space), space.samples, parts, CONFIG, resolution=48, provenance={"by": "hand", "images": 60}
    )
    assert [d.digest for d in again.dictionaries] == [d.digest for d in space.dictionaries]
    assert again.universal_dictionary is universal and again.lmbda == 0.3
    assert again.router is space.router and again.resolution == 48 and again.samples is space.samples
    assert again.provenance["by"] == "hand" and again.provenance["images"] == 60
    sizes = list(space.router.clusters.sizes)
    assert again.provenance["clusters"] == {"sizes": sizes, "candidates": [{"clusters": 2}]}
    assert again.provenance["dictionaries"]["cluster_1"]["iterations"] == 9


def test_refuses_to_assemble_dictionaries_that_do_not_fit_together(space):
    other = Dictionary(space.dictionaries[0].filters[:8], SMALL.lmbda)
    made = {"universal": space.universal_dictionary, "cluster_0": space.dictionaries[0], "cluster_1": other}
    with pytest.raises(DictionaryError, match="one shape"):
        assemble(
            strata_of(space), space.samples, {name: learned(d) for name, d in made.items()}, CONFIG,
            resolution=32, provenance={},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (IDS[:-1], "one id of its own for each image; expected 60; got 59 different"),
        ([*IDS, "one/more"], "expected 60; got 61 different"),
        ([*IDS[:-1], IDS[0]], "expected 60; got 59 different"),
    ],
)
def test_refuses_ids_that_are_not_the_images(images, ids, message):
    with pytest.raises(TrainingError, match=message):
        fit_space(images, ids, CONFIG, seed=0)


def altered(images, value, place=7) -> torch.Tensor:
    images = images.clone()
    images[place, 1, 3, 5] = value
    return images


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda images: altered(images, torch.nan), r"crop/07: pixels out of range; .* got \[nan, nan\]"),
        (lambda images: altered(images, -torch.inf), r"crop/07: pixels out of range; expected \[0, 1\]; got \[-inf,"),
        (lambda images: altered(images, 1.01), r"crop/07: .* got \[.*, 1\.01\]"),
        (lambda images: altered(images, -0.01), r"crop/07: .* got \[-0\.01, "),
        (lambda images: images * 255, r"crop/00: pixels out of range"),
        (lambda images: images[:, :, :6, :6], "smaller than the filters; .* at least 8; got 6 x 6"),
        (lambda images: images[:, :, :20], r"not square; expected \(N, 3, H, H\); got \(60, 3, 20, 32\)"),
        (lambda images: images[:, :1], r"another shape; expected \(B >= 1, 3, H, W\)"),
        (lambda images: images[:, 0], "images of another shape"),
        (lambda images: (255 * images).byte(), r"another type; expected float32 or float64; got torch\.uint8"),
    ],
)
def test_refuses_what_are_no_images_before_any_work(images, alter, message):
    with pytest.raises(TensorError, match=message):
        fit_space(alter(images), IDS, CONFIG, seed=0, report=pytest.fail)


def test_refuses_too_few_images(images):
    with pytest.raises(TensorError, match="images of another shape"):
        fit_space(images[:0], [], CONFIG, seed=0)
    with pytest.raises(TrainingError, match="autoencoder: too few images to train on"):
        fit_space(images[:1], IDS[:1], CONFIG, seed=0)


def test_refuses_a_cluster_of_too_few_images_and_names_it(images, pretrained):
    with pytest.raises(TrainingError, match=r"cluster_\d.*: too few images .* at least 10 in each cluster"):
        fit_space(images[:31], IDS[:31], with_pretrained(CONFIG, pretrained).model_copy(update={"clusters": 4}), seed=0)


def test_refuses_constant_images(images, pretrained):
    config = with_pretrained(CONFIG, pretrained)
    with pytest.raises(TensorError, match="too few different latents"):
        fit_space(torch.full_like(images, 0.5), IDS, config, seed=0)
    levels = torch.full_like(images, 0.2) + 0.6 * (torch.arange(60) % 2)[:, None, None, None]
    with pytest.raises(TensorError, match=r"universal: .*too flat .* at least 16 different textured patches .* got 0"):
        fit_space(levels, IDS, config, seed=0)
    # Where only one cluster is flat, it is named.
    half = torch.where((torch.arange(60) % 2 == 0)[:, None, None, None], images, levels)
    with pytest.raises(TensorError, match=r"cluster_\d: the images are too few or too flat"):
        fit_space(half, IDS, config, seed=0)


def test_refuses_more_filters_than_the_images_have_patches(images, pretrained):
    config = with_pretrained(changed(filters=200), pretrained)
    with pytest.raises(TensorError, match=r"universal: .* at least 200 different textured patches of 8 x 8; got 144"):
        fit_space(images[:, :, :10, :10], IDS, config, seed=0)

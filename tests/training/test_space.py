import numpy as np
import pytest
import torch
from skimage import data

from stl_ray.config.sections import AutoencoderConfig, DictionaryConfig, FitConfig
from stl_ray.csc import Dictionary
from stl_ray.errors import DictionaryError, TrainingError
from stl_ray.space import QuasiNaturalSpace
from stl_ray.training import assemble, fit_router, fit_space, run_through, sample_dictionaries

SMALL = DictionaryConfig(filters=16, images=16, holdout=8, iterations=2)
CONFIG = FitConfig(clusters=2, neighbours=5, autoencoder=AutoencoderConfig(epochs=2), dictionary=SMALL)
IDS = [f"crop/{i:02d}" for i in range(60)]


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
def space(images) -> QuasiNaturalSpace:
    return fit_space(images, IDS, CONFIG, seed=0)


def labels_of(*sizes: int) -> torch.Tensor:
    """Labels of clusters of these sizes, mixed."""
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


def test_invariant_samples_are_disjoint_and_inside_their_cluster():
    labels = labels_of(10, 30, 200)
    samples = sample_dictionaries(labels, SMALL, clusters=3, seed=0)
    assert [sample.name for sample in samples] == ["universal", "cluster_0", "cluster_1", "cluster_2"]
    for cluster, sample in enumerate(samples, start=-1):
        assert not set(sample.learn) & set(sample.holdout)
        for indices in (sample.learn, sample.holdout):
            assert indices == sorted(set(indices))
            assert sample.name == "universal" or set(labels[indices].tolist()) == {cluster}


def test_identity_a_small_cluster_gives_a_fifth_of_itself_to_the_holdout():
    samples = sample_dictionaries(labels_of(10, 19, 24, 200), SMALL, clusters=4, seed=0)
    sizes = [(len(sample.learn), len(sample.holdout)) for sample in samples]
    assert sizes == [(16, 8), (8, 2), (16, 3), (16, 4), (16, 8)]


def test_invariant_samples_depend_on_the_seed_and_the_name_alone():
    labels = labels_of(100, 100)
    first = sample_dictionaries(labels, SMALL, clusters=2, seed=0)
    assert sample_dictionaries(labels, SMALL, clusters=2, seed=0) == first
    for one, other in zip(first, sample_dictionaries(labels, SMALL, clusters=2, seed=1), strict=True):
        assert one.learn != other.learn and one.holdout != other.holdout
    # A cluster's sample stays where other clusters are divided differently.
    divided = labels.where((labels == 0) | (torch.arange(200) % 2 == 0), 2)
    assert sample_dictionaries(divided, SMALL, clusters=3, seed=0)[:2] == first[:2]


@pytest.mark.parametrize(
    ("sizes", "clusters", "message"),
    [
        ((40, 9, 40), 3, "cluster_1: too few images .*at least 10 in each cluster; got 40, 9, 40"),
        ((40, 9), 3, "cluster_1, cluster_2: .*got 40, 9, 0"),
    ],
)
def test_refuses_to_sample_a_cluster_under_ten_images_and_names_it(sizes, clusters, message):
    with pytest.raises(TrainingError, match=message):
        sample_dictionaries(labels_of(*sizes), SMALL, clusters=clusters, seed=0)


def test_identity_run_through_reports_every_step_and_returns_the_result():
    def steps():
        yield 1
        yield 2
        return "result"

    seen = []
    assert run_through(steps(), seen.append) == "result"
    assert seen == [1, 2]


def test_identity_fit_router_reports_its_epochs_and_keeps_the_last_one_s_autoencoder(images):
    epochs = []
    router = run_through(fit_router(images, IDS, CONFIG, seed=0), epochs.append)
    assert [epoch.epoch for epoch in epochs] == [1, 2]
    assert torch.equal(router.autoencoder.encode(images), epochs[-1].autoencoder().encode(images))
    assert router.neighbours == 5
    assert min(router.clusters.sizes) >= 10 and sum(router.clusters.sizes) == 60


def test_refuses_a_small_cluster_before_there_is_a_router(images):
    outlier = torch.cat([images[:30], torch.zeros(1, 3, 32, 32)])
    config = CONFIG.model_copy(update={"clusters": 4})
    with pytest.raises(TrainingError, match="too few images") as caught:
        run_through(fit_router(outlier, IDS[:31], config, seed=0), lambda epoch: None)
    sizes = [int(size) for size in caught.value.got.split(", ")]
    assert len(sizes) == 4 and sum(sizes) == 31
    assert caught.value.item == ", ".join(f"cluster_{i}" for i, size in enumerate(sizes) if size < 10)


def test_certificate_fit_space_gives_a_space_that_projects(space, images):
    assert len(space.dictionaries) == 2
    assert space.resolution == 32 and space.lmbda == SMALL.lmbda and space.provenance == {"images": 60}
    dictionaries = (space.universal_dictionary, *space.dictionaries)
    assert all(dictionary.filters.shape == (16, 3, 8, 8) for dictionary in dictionaries)
    assert len({dictionary.digest for dictionary in dictionaries}) == 3
    projection = space.project(images[::5], exclude=IDS[::5])
    assert projection.images.min() >= 0 and projection.images.max() <= 1
    assert set(projection.clusters.tolist()) == {0, 1}
    assert 0 < projection.sparsity.max() < 0.5
    # Something is taken away, and it is little beside what there is.
    change = (projection.images - images[::5]).square().mean((1, 2, 3))
    assert change.min() > 0 and (change < 0.2 * images[::5].var((1, 2, 3))).all()


def test_invariant_the_same_seed_fits_the_same_space(space, images):
    assert fit_space(images, IDS, CONFIG, seed=0).digest == space.digest
    assert fit_space(images, IDS, CONFIG, seed=1).digest != space.digest


def test_roundtrip_a_fitted_space(space, images, tmp_path):
    space.save(str(tmp_path))
    loaded = QuasiNaturalSpace.load(str(tmp_path))
    assert loaded.digest == space.digest
    stored, made = (each.project(images[:8]) for each in (loaded, space))
    for field in ("images", "clusters", "status", "iterations", "sparsity"):
        assert torch.equal(getattr(stored, field), getattr(made, field))


def test_identity_assemble_puts_every_dictionary_at_its_cluster(space):
    made = {"cluster_1": space.dictionaries[1], "cluster_0": space.dictionaries[0]}
    universal = Dictionary(space.universal_dictionary.filters, 0.3)
    again = assemble(space.router, made | {"universal": universal}, resolution=48, provenance={"by": "hand"})
    assert [d.digest for d in again.dictionaries] == [d.digest for d in space.dictionaries]
    assert again.universal_dictionary is universal and again.lmbda == 0.3
    assert again.router is space.router and again.resolution == 48 and again.provenance == {"by": "hand"}


def test_refuses_to_assemble_dictionaries_that_do_not_fit_together(space):
    other = Dictionary(space.dictionaries[0].filters[:8], SMALL.lmbda)
    made = {"universal": space.universal_dictionary, "cluster_0": space.dictionaries[0], "cluster_1": other}
    with pytest.raises(DictionaryError, match="one shape"):
        assemble(space.router, made, resolution=32, provenance={})

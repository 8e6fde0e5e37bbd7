import pytest
import torch

from stl_ray.config.spaces import DictionaryConfig
from stl_ray.csc import Dictionary
from stl_ray.errors import TrainingError
from stl_ray.training import LearnedDictionary, sample_dictionaries

SMALL = DictionaryConfig(images=16, holdout=8)


def labels_of(*sizes: int) -> torch.Tensor:
    """Labels of clusters of these sizes, mixed."""
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


def test_invariant_samples_are_disjoint_and_inside_their_cluster():
    labels = labels_of(10, 30, 200)
    samples = sample_dictionaries(labels, SMALL, clusters=3, seed=0)
    assert [sample.name for sample in samples] == ["universal", "cluster_0", "cluster_1", "cluster_2"]
    for cluster, sample in enumerate(samples, start=-1):
        both = sample.learn + sample.holdout
        assert len(set(both)) == len(both)
        assert sample.name == "universal" or set(labels[both].tolist()) == {cluster}
    # At random: neither the first images, nor in their order, which blocks would inherit.
    assert samples[0].learn != sorted(samples[0].learn) and max(samples[0].learn) > 100


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
    # Not the same places in every cluster.
    places = [
        [(labels == cluster).nonzero()[:, 0].tolist().index(i) for i in first[1 + cluster].learn] for cluster in (0, 1)
    ]
    assert places[0] != places[1]
    # A cluster's sample stays where other clusters are divided differently.
    divided = labels.where((labels == 0) | (torch.arange(200) % 2 == 0), 2)
    assert sample_dictionaries(divided, SMALL, clusters=3, seed=0)[:2] == first[:2]


def test_invariant_more_images_leave_the_holdout_as_it_is():
    labels = labels_of(100, 100)
    for few, many in zip(
        sample_dictionaries(labels, SMALL, clusters=2, seed=0),
        sample_dictionaries(labels, SMALL.model_copy(update={"images": 40}), clusters=2, seed=0),
        strict=True,
    ):
        assert many.holdout == few.holdout and many.learn[:16] == few.learn


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


def test_identity_the_summary_is_of_the_last_iteration_and_of_held_out_images():
    filters = torch.zeros(1, 1, 2, 2)
    filters[0, 0, 0, 0] = 1
    names = ("iteration", "objective", "holdout_objective", "sparsity", "psnr", "converged")
    curve = [
        dict(zip(names, row, strict=True)) for row in ((1, 5.0, 6.0, 0.1, 20.0, False), (2, 3.0, 4.0, 0.2, 30.0, True))
    ]
    learned = LearnedDictionary(Dictionary(filters, 0.2), curve, images=16, holdout=8)
    assert learned.summary("online") == {
        "method": "online",
        "images": 16,
        "holdout": 8,
        "iterations": 2,
        "converged": True,
        "objective": 4.0,
        "sparsity": 0.2,
        "psnr": 30.0,
    }

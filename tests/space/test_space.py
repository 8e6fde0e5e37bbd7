import math
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stl_ray.csc import Dictionary, SolveStatus, reconstruct
from stl_ray.errors import DictionaryError, TensorError
from stl_ray.space import QuasiNaturalSpace

FIELDS = ("images", "clusters", "status", "iterations", "sparsity")


def test_agrees_with_one_solve_per_image_by_its_own_dictionary(
    space: QuasiNaturalSpace, natural_images: Tensor
) -> None:
    images = natural_images[::3]
    result = space.project(images)
    clusters = space.route(images)
    assert torch.equal(result.clusters, clusters)
    assert len(clusters.unique()) > 1
    for index, cluster in enumerate(clusters.tolist()):
        alone = reconstruct(images[index : index + 1], space.dictionaries[cluster], 0.2)
        assert torch.equal(result.images[index], alone.images[0].clamp(0, 1))
        assert result.iterations[index] == alone.codes.iterations[0]
        assert result.sparsity[index] == pytest.approx(float((alone.codes.maps != 0).float().mean()))
    assert (result.status == SolveStatus.CONVERGED).all()


@pytest.mark.parametrize("size", [(32, 32), (19, 26)])
def test_invariant_alone_in_a_batch_and_shuffled(
    space: QuasiNaturalSpace, natural_images: Tensor, ids: list[str], size: tuple[int, int]
) -> None:
    space = replace(space, resolution=None)
    images, names = natural_images[::3, :, : size[0], : size[1]].contiguous(), ids[::3]
    together = space.project(images, exclude=names)
    order = torch.tensor([5, 2, 7, 0, 3, 1, 6, 4])
    shuffled = space.project(images[order], exclude=[names[index] for index in order])
    alone = [space.project(images[index : index + 1], exclude=names[index : index + 1]) for index in range(8)]
    for field in FIELDS:
        value = getattr(together, field)
        assert torch.equal(getattr(shuffled, field), value[order])
        assert torch.equal(torch.cat([getattr(one, field) for one in alone]), value)


def test_invariant_images_end_up_in_range(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    hard = (natural_images > natural_images.mean()).float()[:4]
    raw = reconstruct(hard, space.universal_dictionary, 0.2).images
    assert raw.min() < 0
    assert raw.max() > 1
    for normalization in ("clip", "reference"):
        projected = space.project(hard, normalization=normalization).images
        assert projected.min() >= 0
        assert projected.max() <= 1


def test_agrees_with_the_reference_normalization(dictionaries: tuple[Dictionary, ...], natural_images: Tensor) -> None:
    space = QuasiNaturalSpace.from_dictionary(dictionaries[0])
    images = torch.cat([natural_images[:2] * 0.5, torch.zeros(1, 3, 32, 32)])
    raw = reconstruct(images, dictionaries[0], 0.2).images
    projected = space.project(images, normalization="reference").images
    torch.testing.assert_close(projected[:2], (raw[:2] / raw[:2].amax((1, 2, 3), keepdim=True)).clamp(0))
    assert projected[:2].amax((1, 2, 3)).tolist() == [1, 1]
    assert (projected[2] == 0).all()


def test_invariant_given_clusters_replace_the_vote(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    forced = space.project(natural_images[:3], clusters=torch.tensor([2, 0, 2]))
    expected = QuasiNaturalSpace.from_dictionary(space.dictionaries[2], 0.2).project(natural_images[[0, 2]])
    assert forced.clusters.tolist() == [2, 0, 2]
    assert torch.equal(forced.images[[0, 2]], expected.images)


def test_invariant_universal_is_the_unclustered_space(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    universal = space.universal()
    assert len(universal.dictionaries) == 1
    assert universal.route(natural_images).tolist() == [0] * 24
    expected = QuasiNaturalSpace.from_dictionary(space.universal_dictionary).project(natural_images[:2])
    assert torch.equal(universal.project(natural_images[:2]).images, expected.images)
    with pytest.raises(TensorError, match="unclustered"):
        universal.latents(natural_images)


def test_invariant_digest_follows_what_changes_a_projection(space: QuasiNaturalSpace) -> None:
    samples = torch.zeros((3, 2, 3, 32, 32), dtype=torch.uint8)
    same = replace(space, provenance={"by": "another"}, resolution=None, samples=samples)
    assert same.digest == space.digest
    assert space.router is not None
    others = [
        replace(space, lmbda=0.1),
        replace(space, dictionaries=space.dictionaries[::-1]),
        replace(space, router=replace(space.router, neighbours=4)),
        space.universal(),
    ]
    assert len({space.digest, *(other.digest for other in others)}) == 5


def test_invariant_lambda_of_the_dictionary_unless_another_is_given(dictionaries: tuple[Dictionary, ...]) -> None:
    assert QuasiNaturalSpace.from_dictionary(dictionaries[0]).lmbda == 0.2
    assert QuasiNaturalSpace.from_dictionary(dictionaries[0], lmbda=0.1).lmbda == 0.1


def test_invariant_one_warning_for_another_size(space: QuasiNaturalSpace) -> None:
    images = torch.rand((1, 3, 12, 14), generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            assert space.project(images).images.shape == images.shape
    assert len(caught) == 1
    assert "12 x 14" in str(caught[0].message)


def test_refuses_images_it_cannot_project(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    images = natural_images[:2]
    not_finite = images.clone()
    not_finite[0, 0, 0, 0] = math.nan
    bytes_ = (images * 255).round()
    for bad in (not_finite, bytes_, images - 0.1, images[0], images[:, :1], images.half(), bytes_.byte(), images[:0]):
        with pytest.raises(TensorError):
            space.project(bad)
    with pytest.raises(TensorError, match="normalization"):
        space.project(images, normalization="max")
    with pytest.raises(TensorError, match="cluster"):
        space.project(images, clusters=torch.tensor([0, 3]))
    for clusters in ([0], [0, 1, 2], [[0], [1]], [0.0, 1.0], [False, True]):
        with pytest.raises(TensorError, match="cluster"):
            space.project(images, clusters=torch.tensor(clusters))
    with pytest.raises(TensorError, match="cluster"):
        space.project(images, clusters=torch.tensor([0, 1], dtype=torch.int32))
    with pytest.raises(TensorError, match="accuracy"):
        space.project(images, accuracy="best")


def test_refuses_parts_that_do_not_fit(space: QuasiNaturalSpace) -> None:
    with pytest.raises(DictionaryError, match="one dictionary"):
        replace(space, dictionaries=space.dictionaries[:2])
    with pytest.raises(DictionaryError, match="lambda"):
        replace(space, lmbda=0.0)
    samples = torch.zeros((3, 2, 3, 32, 32), dtype=torch.uint8)
    for bad in (samples[:2], samples[0], samples.float()):
        with pytest.raises(TensorError, match="samples"):
            replace(space, samples=bad)
    fewer = Dictionary(space.dictionaries[0].filters[:5], 0.2)
    with pytest.raises(DictionaryError, match="one shape"):
        replace(space, dictionaries=(fewer, *space.dictionaries[1:]))


def test_agrees_with_the_authors_dictionary_on_their_samples(shared_data: Path) -> None:
    """Attacked and clean images come closer under the projection, as the paper claims."""
    import numpy as np
    from PIL import Image

    reference = shared_data / "reference"
    dictionary = Dictionary.from_reference(reference / "dictionaries" / "basis_64" / "64_p8_lm0.2.npy")
    space = QuasiNaturalSpace.from_dictionary(dictionary)
    batches = []
    for kind in ("clean", "fgsm_0.08"):
        files = sorted((reference / "samples_64" / kind).glob("*.png"), key=lambda path: path.name.split("_")[0])[:4]
        images = [torch.from_numpy(np.array(Image.open(file).convert("RGB"))) for file in files]
        batches.append(torch.stack(images).permute(0, 3, 1, 2).float() / 255)
    before = (batches[1] - batches[0]).flatten(1).norm(dim=1)
    clean, attacked = (space.project(batch).images for batch in batches)
    after = (attacked - clean).flatten(1).norm(dim=1)
    assert (after < 0.6 * before).all()

import hashlib
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stl_ray.errors import TensorError
from stl_ray.space import Autoencoder, ClusterModel, Router, encode, hash_ids, thumbnails
from stl_ray.space.clusters import reduce


def line_router(positions: list[float], labels: list[int], neighbours: int) -> Router:
    """A router whose references lie on a line at `positions`."""
    model = ClusterModel(
        mean=torch.zeros(512),
        components=torch.eye(1, 512),
        centroids=torch.zeros(max(labels) + 1, 1),
        latents=torch.tensor(positions, dtype=torch.float32)[:, None],
        labels=torch.tensor(labels),
        sizes=(1,) * (max(labels) + 1),
    )
    ids = hash_ids([str(index) for index in range(len(positions))])
    return Router(Autoencoder().eval(), model, ids, neighbours)


def at(*positions: float) -> Tensor:
    return torch.tensor(positions)[:, None]


def test_agrees_with_a_vote_by_hand() -> None:
    router = line_router([0, 1, 2, 10, 11, 12, 13], [0, 0, 1, 1, 1, 1, 1], neighbours=3)
    assert router.vote(at(0.5, 11.4, 4.0)).tolist() == [0, 1, 0]


def test_agrees_with_brute_force(router: Router, natural_images: Tensor) -> None:
    latents = router.latents(natural_images)
    got = router.vote(latents).tolist()
    for query, cluster in zip(latents.double(), got, strict=True):
        distances = (router.clusters.latents.double() - query).norm(dim=1)
        nearest = distances.argsort()[: router.neighbours]
        votes = Counter(router.clusters.labels[nearest].tolist())
        most = max(votes.values())
        sums = {
            label: float(distances[nearest][router.clusters.labels[nearest] == label].sum())
            for label, count in votes.items()
            if count == most
        }
        assert cluster == min(sums, key=sums.__getitem__)


def test_invariant_ties_go_to_the_smaller_summed_distance() -> None:
    router = line_router([0, 1, 2.9, 3.9, 50], [0, 0, 1, 1, 1], neighbours=4)
    assert router.vote(at(1.9, 2.1)).tolist() == [0, 1]
    # Whatever the clusters' numbers are.
    assert line_router([0, 1, 3, 3.2, 50], [1, 1, 0, 0, 0], neighbours=4).vote(at(1.5)).tolist() == [1]


def test_invariant_a_reference_has_no_vote_on_itself() -> None:
    router = line_router([0, 1, 2], [1, 0, 0], neighbours=1)
    assert router.vote(at(0.0, 0.0)).tolist() == [1, 1]
    assert router.vote(at(0.0, 0.0), exclude=["0", "unknown"]).tolist() == [0, 1]


def test_invariant_alone_in_a_batch_and_shuffled(router: Router, natural_images: Tensor) -> None:
    latents = router.latents(natural_images)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(router.latents(natural_images[order]), latents[order])
    assert torch.equal(router.latents(natural_images[3:4])[0], latents[3])


def test_invariant_any_size_is_routed_like_its_reduction(router: Router, natural_images: Tensor) -> None:
    large = natural_images[:6].repeat_interleave(3, 2).repeat_interleave(3, 3)
    latents = router.latents(natural_images[:6])
    distances = torch.cdist(router.latents(large), latents)
    assert torch.equal(distances.argmin(1), torch.arange(6))


@pytest.mark.parametrize("size", [(12, 14), (32, 32), (40, 33), (96, 64), (224, 224)])
def test_agrees_with_torch_s_antialiased_reduction(natural_images: Tensor, size: tuple[int, int]) -> None:
    images = functional.interpolate(natural_images[:5], size)
    images = 1.2 * images - 0.1  # out of range by more than rounding
    expected = functional.interpolate(images, (32, 32), mode="bilinear", antialias=True).clamp(0, 1) * 255
    got = thumbnails(images, 32)
    assert got.dtype == torch.uint8
    assert ((got - expected).abs() <= 0.5 + 1e-3).all()


def test_identity_thumbnails_of_thumbnails(natural_images: Tensor) -> None:
    levels = torch.arange(256, dtype=torch.uint8).repeat(12).view(1, 3, 32, 32)
    assert torch.equal(thumbnails(levels.float() / 255, 32), levels)
    small = thumbnails(natural_images.repeat_interleave(3, 2), 64)
    assert torch.equal(thumbnails(small.float() / 255, 64), small)


def test_invariant_thumbnails_alone_shuffled_and_in_any_memory_layout(natural_images: Tensor) -> None:
    images = natural_images.repeat_interleave(3, 2).repeat_interleave(2, 3)
    expected = thumbnails(images, 32)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(thumbnails(images[order], 32), expected[order])
    assert torch.equal(torch.cat([thumbnails(image[None], 32) for image in images]), expected)
    assert torch.equal(thumbnails(images.contiguous(memory_format=torch.channels_last), 32), expected)
    assert torch.equal(thumbnails(images.double(), 32), expected)


@pytest.mark.parametrize("side", [32, 64])
def test_agrees_with_the_autoencoder(natural_images: Tensor, side: int) -> None:
    autoencoder = Autoencoder(side).eval()
    thumbs = thumbnails(natural_images, side)
    with torch.no_grad():
        expected = autoencoder.encode(thumbs.float() / 255)
    torch.testing.assert_close(encode(autoencoder, thumbs), expected, rtol=1e-4, atol=1e-5)


def test_identity_latents_of_stored_thumbnails_are_those_of_the_image(router: Router, natural_images: Tensor) -> None:
    images = natural_images.repeat_interleave(3, 2).repeat_interleave(3, 3)
    stored = thumbnails(images, 32)
    expected = reduce(encode(router.autoencoder, stored), router.clusters.mean, router.clusters.components)
    assert torch.equal(router.latents(images), expected)
    assert torch.equal(router.latents(stored.float() / 255), expected)
    # And the reference latent of a training image is what it is routed by.
    assert torch.equal(router.latents(natural_images), router.clusters.latents)


def test_agrees_with_the_nearest_centroid(router: Router, natural_images: Tensor) -> None:
    latents = router.latents(natural_images)
    expected = torch.cdist(latents.double(), router.clusters.centroids.double()).argmin(1)
    assert torch.equal(router.nearest_centroid(latents), expected)
    assert torch.equal(router.nearest_centroid(latents), router.clusters.labels)


def test_invariant_the_vote_s_ties_do_not_depend_on_the_batch() -> None:
    """Two clusters at mirrored, equal distances: the lower number, alone and among others."""
    router = line_router([-3, -1, 1, 3, 80, 90], [1, 1, 0, 0, 0, 1], neighbours=4)
    queries = at(*[0.0] * 33, 2.0)
    assert router.vote(queries).tolist() == [0] * 34
    assert router.vote(at(0.0)).tolist() == [0]


def test_invariant_references_that_are_left_out_have_no_vote_though_none_are_left() -> None:
    router = line_router([0, 1, 2, 3], [0, 0, 0, 1], neighbours=3)
    router = replace(router, reference_ids=hash_ids(["a", "a", "a", "b"]))
    assert router.vote(at(0.0)).tolist() == [0]
    assert router.vote(at(0.0), exclude=["a"]).tolist() == [1]


def test_agrees_with_sha256() -> None:
    expected = int.from_bytes(hashlib.sha256(b"train/7").digest()[:8], "little", signed=True)
    assert hash_ids(["a", "train/7"])[1] == expected
    assert hash_ids([]).shape == (0,)


def test_refuses_parts_that_do_not_fit(router: Router) -> None:
    for neighbours in (0, 24):
        with pytest.raises(TensorError, match="k out of range"):
            replace(router, neighbours=neighbours)
    with pytest.raises(TensorError, match="one id"):
        replace(router, reference_ids=router.reference_ids[1:])
    with pytest.raises(TensorError, match="training mode"):
        replace(router, autoencoder=Autoencoder())
    with pytest.raises(TensorError, match="PCA of other latents"):
        replace(router, autoencoder=Autoencoder(64).eval())
    with pytest.raises(TensorError, match="not thumbnails"):
        encode(router.autoencoder, torch.zeros(1, 3, 32, 32))
    with pytest.raises(TensorError, match="one id for each image"):
        router.vote(router.clusters.latents[:3], exclude=["a"])

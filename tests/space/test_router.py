import hashlib
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stl_ray.errors import TensorError
from stl_ray.space import Autoencoder, ClusterModel, Router, encode, hash_ids


def line_router(positions: list[float], labels: list[int], neighbours: int) -> Router:
    """A router whose references lie on a line at `positions`."""
    model = ClusterModel(
        mean=torch.zeros(512),
        components=torch.eye(1, 512),
        centroids=torch.zeros(max(labels) + 1, 1),
        latents=torch.tensor(positions, dtype=torch.float32)[:, None],
        labels=torch.tensor(labels),
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


def test_agrees_with_the_autoencoder(router: Router, natural_images: Tensor) -> None:
    with torch.no_grad():
        expected = router.autoencoder.encode(natural_images)
    torch.testing.assert_close(encode(router.autoencoder, natural_images), expected, rtol=1e-4, atol=1e-5)


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
    with pytest.raises(TensorError, match="one id for each image"):
        router.vote(router.clusters.latents[:3], exclude=["a"])

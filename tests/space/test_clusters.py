import pytest
import torch
from torch import Tensor

from stl_ray.errors import TensorError
from stl_ray.space import ClusterModel, fit_clusters


def blobs() -> tuple[Tensor, Tensor]:
    """Sixty points around three far centres in 20 dimensions, and their centre's index."""
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn((3, 20), generator=generator)
    labels = torch.arange(60) % 3
    return centres[labels] + torch.randn((60, 20), generator=generator), labels


def fit(latents: Tensor, clusters: int = 3, pca_components: int = 6, seed: int = 0) -> ClusterModel:
    return fit_clusters(latents, clusters=clusters, pca_components=pca_components, restarts=4, seed=seed)


def test_agrees_with_the_blobs_that_were_drawn() -> None:
    points, truth = blobs()
    model = fit(points)
    assert model.sizes == [20, 20, 20]
    for cluster in range(3):
        assert len(truth[model.labels == cluster].unique()) == 1


def test_certificate_every_latent_is_nearest_to_its_own_centroid() -> None:
    model = fit(blobs()[0], clusters=5)
    distances = torch.cdist(model.latents.double(), model.centroids.double())
    assert torch.equal(distances.argmin(1), model.labels)
    means = torch.stack([model.latents[model.labels == cluster].mean(0) for cluster in range(5)])
    torch.testing.assert_close(model.centroids, means, rtol=1e-3, atol=1e-3)


def test_identity_latents_are_the_projected_points() -> None:
    points, _ = blobs()
    model = fit(points)
    torch.testing.assert_close((points - model.mean) @ model.components.T, model.latents, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.components @ model.components.T, torch.eye(6), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("images", "asked", "kept"), [(60, 128, 20), (12, 128, 11), (60, 4, 4)])
def test_invariant_pca_dimensions_are_limited(images: int, asked: int, kept: int) -> None:
    model = fit(blobs()[0][:images], pca_components=asked)
    assert model.latents.shape == (images, kept)
    assert model.components.shape == (kept, 20)


def test_invariant_same_seed_same_model() -> None:
    points, _ = blobs()
    first, second = fit(points, clusters=5, seed=2**62), fit(points, clusters=5, seed=2**62)
    for name in ("mean", "components", "centroids", "latents", "labels"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_refuses_latents_that_cannot_be_clustered() -> None:
    points, _ = blobs()
    with pytest.raises(TensorError, match="too few"):
        fit(points[:2])
    with pytest.raises(TensorError, match="too few"):
        fit(points[:1].repeat(10, 1))
    with pytest.raises(TensorError):
        fit(points * torch.nan)
    with pytest.raises(TensorError):
        fit(points[0])

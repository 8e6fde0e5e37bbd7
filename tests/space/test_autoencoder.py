import pytest
import torch

from stl_ray.errors import TensorError
from stl_ray.space.autoencoder import SIDES, Autoencoder


@pytest.fixture
def autoencoder() -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Autoencoder().eval()


def test_identity_shapes_and_ranges(autoencoder, natural_images):
    latents = autoencoder.encode(natural_images)
    reconstruction = autoencoder(natural_images)
    assert latents.shape == (24, autoencoder.latent) == (24, 512)
    assert latents.min() >= 0 and latents.std(dim=0).max() > 0
    assert reconstruction.shape == natural_images.shape
    assert reconstruction.min() > 0 and reconstruction.max() < 1


def test_identity_the_reconstruction_depends_on_the_latent_only(autoencoder, natural_images):
    latents = autoencoder.encode(natural_images).unflatten(1, (32, 4, 4))
    torch.testing.assert_close(autoencoder.decoder(latents), autoencoder(natural_images), rtol=0, atol=0)


def test_invariant_an_image_s_latent_ignores_its_batch_mates(autoencoder, natural_images):
    # BatchNorm in eval mode uses running statistics; bits may differ between batch shapes, which tiling takes care of.
    alone = torch.cat([autoencoder.encode(image[None]) for image in natural_images])
    torch.testing.assert_close(alone, autoencoder.encode(natural_images), rtol=1e-5, atol=1e-6)


def test_identity_one_set_of_weights_for_either_side(autoencoder, natural_images):
    """Every layer is a convolution, so the authors' 64 x 64 sees a 32 x 32 corner alike, but for what pads its edges."""
    larger = Autoencoder(64).eval()
    larger.load_state_dict(autoencoder.state_dict())
    canvas = torch.zeros(24, 3, 64, 64)
    canvas[:, :, :32, :32] = natural_images
    assert larger.latent == larger.encode(canvas).shape[1] == 2048
    corner = larger.encode(canvas).unflatten(1, (32, 8, 8))[:, :, :2, :2]
    torch.testing.assert_close(corner, autoencoder.encode(natural_images).unflatten(1, (32, 4, 4))[:, :, :2, :2])
    assert larger(canvas).shape == canvas.shape


def test_refuses_other_sides():
    for side in (0, 48, 128):
        with pytest.raises(TensorError, match="32 or 64"):
            Autoencoder(side)


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (1, 3, 32, 64), (1, 1, 32, 32), (3, 32, 32)])
def test_refuses_other_shapes(autoencoder, shape):
    with pytest.raises(TensorError, match="32"):
        autoencoder.encode(torch.zeros(shape))
    with pytest.raises(TensorError, match="64"):
        Autoencoder(SIDES[1]).encode(torch.zeros(1, 3, 32, 32))

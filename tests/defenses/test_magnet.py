import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from scipy.special import expit

from stl_ray.defenses.magnet import TILE, MagNet, MagnetOptions
from stl_ray.defenses.magnet_autoencoder import KIND, VERSION, Autoencoder, MagnetAutoencoder
from stl_ray.errors import ArtifactError, TensorError
from stl_ray.models import seeded
from stl_ray.store import save_artifact


def autoencoder(width: int = 3, seed: int = 0) -> MagnetAutoencoder:
    return MagnetAutoencoder.of(seeded(lambda: Autoencoder(width), seed).state_dict())


@pytest.mark.parametrize("width", [3, 5])
def test_agrees_with_convolutions_by_scipy(natural_images, width):
    """Three convolutions, zeros beyond the image, a sigmoid behind each."""
    made = autoencoder(width)
    layer = natural_images[0, :, :20].double().numpy()
    for name in ("encoder", "decoder", "output"):
        weights, biases = (made.weights[f"{name}.{kind}"].double().numpy() for kind in ("weight", "bias"))
        sums = [
            sum(correlate2d(channel, kernel, mode="same") for channel, kernel in zip(layer, kernels, strict=True))
            for kernels in weights
        ]
        layer = expit(np.stack(sums) + biases[:, None, None])
    purified = MagNet(made).purify(natural_images[:1, :, :20], seeds=[0]).images
    np.testing.assert_allclose(purified[0].numpy(), layer, rtol=0, atol=1e-6)


def test_certificate_the_exact_gradient_by_differences(natural_images):
    defense = MagNet(autoencoder())
    images = natural_images[: TILE + 3, :, 4:20, 4:22].double()
    noise = torch.Generator().manual_seed(0)
    v, along = (torch.randn(images.shape, generator=noise, dtype=torch.float64) for _ in range(2))
    linearised = defense.linearised("exact")
    _, pullback = linearised(images, [0] * len(images))
    ahead, behind = (linearised(images + step * along, [0] * len(images))[0] for step in (1e-5, -1e-5))
    expected = ((ahead - behind) / 2e-5 * v).flatten(1).sum(1)
    # The third derivative of three sigmoids is of order 1: the error is of order 1e-10.
    torch.testing.assert_close((pullback(v) * along).flatten(1).sum(1), expected, rtol=1e-7, atol=1e-8)


def test_invariant_a_pixel_reaches_three_around_it(natural_images):
    defense, images = MagNet(autoencoder()), natural_images[:2].clone()
    images[1] = images[0]
    images[1, :, 16, 9] = 1 - images[1, :, 16, 9]
    one, other = defense.purify(images, seeds=[0, 0]).images
    rows, columns = torch.where((one != other).any(0))
    assert (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())) == (13, 19, 6, 12)


def test_roundtrip_the_digest_is_that_of_the_weights(tmp_path):
    made = autoencoder()
    digests = {made.save(str(tmp_path / str(number)), {"images": number}) for number in range(2)}
    assert len(digests) == 2  # of the records too
    loaded = [MagnetOptions().recipe.load(str(tmp_path / str(number))) for number in range(2)]
    assert {one.digest for one in loaded} == {made.digest} != {autoencoder(seed=1).digest}
    assert all(torch.equal(tensor, loaded[0].weights[name]) for name, tensor in made.weights.items())
    wide = autoencoder(7)
    wide.save(str(tmp_path / "wide"), {})
    assert MagnetOptions().recipe.load(str(tmp_path / "wide")).digest == wide.digest  # the width is that of the weights


@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "type", "none", "infinite", "empty"])
def test_refuses_weights_of_another_network(tmp_path, fault):
    arrays = {name: tensor.numpy().copy() for name, tensor in autoencoder().weights.items()}
    if fault == "missing":
        del arrays["decoder.bias"]
    elif fault == "extra":
        arrays["more"] = np.zeros(3, np.float32)
    elif fault == "shape":
        arrays["output.bias"] = np.zeros(4, np.float32)
    elif fault == "type":
        arrays["output.bias"] = np.zeros(3)
    elif fault == "none":
        arrays = {}
    elif fault == "empty":
        arrays["encoder.bias"] = np.zeros(0, np.float32)
    else:
        arrays["output.weight"][0, 0, 0, 0] = np.inf
    save_artifact(str(tmp_path / "bad"), KIND, VERSION, arrays, {})
    with pytest.raises(ArtifactError, match="not finite" if fault == "infinite" else "not an autoencoder") as caught:
        MagnetAutoencoder.load(str(tmp_path / "bad"))
    assert caught.value.item == str(tmp_path / "bad")
    with pytest.raises(ArtifactError, match="no readable magnet artifact"):
        MagnetAutoencoder.load(str(tmp_path / "absent"))


def test_refuses_what_is_no_batch_of_images(natural_images):
    defense = MagNet(autoencoder())
    for images in (natural_images[:1, :1], natural_images[0], natural_images[:0], natural_images[:1] * torch.nan):
        with pytest.raises(TensorError):
            defense.purify(images, seeds=[0])

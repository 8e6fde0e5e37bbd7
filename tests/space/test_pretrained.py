import pytest
import torch

from stl_ray.errors import ArtifactError
from stl_ray.space import Autoencoder
from stl_ray.space.pretrained import load_autoencoder, save_autoencoder
from stl_ray.store import save_artifact


@pytest.fixture
def autoencoder() -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Autoencoder(64).eval()


def test_roundtrip(autoencoder, tmp_path):
    digest = save_autoencoder(str(tmp_path / "first"), autoencoder, {"psnr": 20.5})
    loaded, meta, found = load_autoencoder(str(tmp_path / "first"))
    assert (meta, found) == ({"psnr": 20.5, "side": 64}, digest)
    assert not loaded.training
    images = torch.rand(3, 3, 64, 64)
    assert torch.equal(loaded(images), autoencoder(images))
    assert save_autoencoder((tmp_path / "second").as_uri(), loaded, meta) == digest


def test_refuses_weights_that_are_not_finite(autoencoder, tmp_path):
    with torch.no_grad():
        autoencoder.decoder[3].bias[1] = torch.inf
    save_autoencoder(str(tmp_path), autoencoder, {})
    with pytest.raises(ArtifactError, match=r"not finite; got decoder\.3\.bias"):
        load_autoencoder(str(tmp_path))


@pytest.mark.parametrize("meta", [{}, {"side": 48}, {"side": None}, {"side": 32}])
def test_refuses_what_is_no_autoencoder(meta, autoencoder, tmp_path):
    arrays = {name: tensor.numpy() for name, tensor in autoencoder.state_dict().items()}
    arrays.pop("encoder.0.0.weight")
    save_artifact(str(tmp_path), "autoencoder", 1, arrays, meta)
    with pytest.raises(ArtifactError, match="not an autoencoder of this version"):
        load_autoencoder(str(tmp_path))


def test_refuses_what_is_not_there_or_altered(autoencoder, tmp_path):
    with pytest.raises(ArtifactError, match="no readable autoencoder artifact"):
        load_autoencoder(str(tmp_path))
    save_autoencoder(str(tmp_path), autoencoder, {"psnr": 20.5})
    record = tmp_path / "autoencoder.json"
    record.write_text(record.read_text().replace("20.5", "30.5"))
    with pytest.raises(ArtifactError, match="altered"):
        load_autoencoder(str(tmp_path))

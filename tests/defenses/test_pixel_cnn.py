import numpy as np
import pytest
import torch

from stl_ray.defenses.pixel_cnn import KIND, VERSION, FittedPixelCnn, PixelCnn
from stl_ray.defenses.pixel_defend import PixelDefendOptions
from stl_ray.errors import ArtifactError
from stl_ray.models import seeded
from stl_ray.store import save_artifact


def network(width: int = 6, layers: int = 2, mixtures: int = 3, seed: int = 0) -> PixelCnn:
    return seeded(lambda: PixelCnn(width, layers, mixtures), seed)


def fitted(**sizes: int) -> FittedPixelCnn:
    return FittedPixelCnn.of(network(**sizes).state_dict())


def test_invariant_what_is_said_of_a_pixel_is_of_those_before_it(natural_images):
    """Bits of all that comes before a changed pixel in the order of reading, itself included, are the same."""
    net, levels = network(layers=3), (natural_images[:1, :, :12, :14] * 255).round()
    plain = net(levels)
    for row, column in ((0, 0), (4, 7), (5, 13), (11, 0)):
        changed = levels.clone()
        changed[0, :, row, column] = 255 - changed[0, :, row, column]
        moved = (net(changed) != plain).any(-1)[0].flatten()
        assert not bool(moved[: row * 14 + column + 1].any())
        assert (row, column) == (11, 13) or bool(moved[row * 14 + column + 1 :].any())


def test_identity_it_sees_all_pixels_within_reach_and_has_no_blind_spot():
    levels = torch.randint(256, (1, 3, 15, 15), generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    (gradient,) = torch.autograd.grad(network(layers=3).double()(levels)[0, 10, 7].sum(), levels)
    seen = gradient.abs().sum((0, 1)) > 0
    expected = torch.zeros(15, 15, dtype=torch.bool)
    expected[5:10, 2:13] = True  # 3 layers and 2 rows above; 3 layers and 1 column to each side, and 1 more
    expected[10, 2:7] = True
    assert torch.equal(seen[10], expected[10]) and not bool(seen[11:].any())
    assert bool(seen[9, 4:11].all()) and bool(seen[6:10, 7].all())
    assert not bool((seen & ~expected).any())


def test_identity_a_border_is_no_grey_pixel():
    """Grey is 0, as what lies beyond the border; without layers, whose borders show as well."""
    said = network(layers=0)(torch.full((1, 3, 6, 6), 127.5))[0]
    torch.testing.assert_close(said[4, 2], said[4, 3])
    assert float((said[0, 0] - said[4, 3]).detach().abs().max()) > 0.01


def test_roundtrip_the_digest_is_that_of_the_weights(tmp_path):
    made = fitted()
    digests = {made.save(str(tmp_path / str(number)), {"images": number}) for number in range(2)}
    assert len(digests) == 2  # of the records too
    loaded = [PixelDefendOptions().recipe.load(str(tmp_path / str(number))) for number in range(2)]
    assert {one.digest for one in loaded} == {made.digest} != {fitted(seed=1).digest}
    levels = torch.randint(256, (1, 3, 5, 7)).float()
    assert torch.equal(loaded[0].like(levels)(levels), network()(levels))
    for sizes in ({"width": 4}, {"layers": 5}, {"mixtures": 1}):  # they are those of the weights
        other = fitted(**sizes)
        other.save(str(tmp_path / "other"), {})
        assert PixelDefendOptions().recipe.load(str(tmp_path / "other")).digest == other.digest


@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "type", "none", "infinite", "layer"])
def test_refuses_weights_of_another_network(tmp_path, fault):
    arrays = {name: tensor.numpy().copy() for name, tensor in network().state_dict().items()}
    if fault == "missing":
        del arrays["layers.1.across.weight"]
    elif fault == "extra":
        arrays["more"] = np.zeros(3, np.float32)
    elif fault == "shape":
        arrays["output.bias"] = np.zeros(31, np.float32)
    elif fault == "type":
        arrays["output.bias"] = np.zeros(30)
    elif fault == "none":
        arrays = {}
    elif fault == "layer":
        arrays = {name: array for name, array in arrays.items() if not name.startswith("layers.0.")}
    else:
        arrays["above.weight"][0, 0, 0, 0] = np.nan
    save_artifact(str(tmp_path / "bad"), KIND, VERSION, arrays, {})
    with pytest.raises(ArtifactError, match="not finite" if fault == "infinite" else "not a network of") as caught:
        FittedPixelCnn.load(str(tmp_path / "bad"))
    assert caught.value.item == str(tmp_path / "bad")


def test_refuses_an_artifact_that_was_altered(tmp_path):
    fitted().save(str(tmp_path), {})
    file = tmp_path / f"{KIND}.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtifactError, match="digest"):
        FittedPixelCnn.load(str(tmp_path))

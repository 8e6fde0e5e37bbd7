import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp

from stl_ray.defenses import options_of
from stl_ray.defenses.d3 import D3
from stl_ray.defenses.patch_dictionary import PatchDictionary
from stl_ray.errors import ConfigError, TensorError
from stl_ray.images import quantize
from stl_ray.metrics import psnr


def dictionary_of(images: torch.Tensor, side: int = 8) -> PatchDictionary:
    """Every patch of the images that is not flat, on a grid without overlap."""
    patches = images.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    centred = patches - patches.mean((2, 3), keepdim=True)
    norms = centred.flatten(1).norm(dim=1)
    return PatchDictionary((centred / norms[:, None, None, None])[norms > 0.2], digest="0")


@pytest.fixture(scope="module")
def dictionary(natural_images) -> PatchDictionary:
    return dictionary_of(natural_images[4:])


@pytest.fixture(scope="module")
def images(natural_images) -> torch.Tensor:
    return quantize(natural_images[:4])


def purify(defense: D3, images: torch.Tensor) -> torch.Tensor:
    return defense.purify(images, seeds=range(len(images))).images


@pytest.mark.filterwarnings("ignore:Orthogonal matching pursuit ended prematurely")  # flat patches
def test_agrees_with_scikit_learn_patch_by_patch(images, dictionary):
    side, stride, sparsity = 8, 5, 3
    atoms = dictionary.atoms.flatten(1).double().numpy()
    expected = np.zeros(images.shape)
    for image, result in zip(images.double().numpy(), expected, strict=True):
        count = np.zeros(image.shape[1:])
        places = [*range(0, 32 - side, stride), 32 - side]
        for top in places:
            for left in places:
                window = (slice(top, top + side), slice(left, left + side))
                patch = image[:, *window]
                mean = patch.mean((1, 2), keepdims=True)
                code = orthogonal_mp(atoms.T, (patch - mean).ravel(), n_nonzero_coefs=sparsity)
                result[:, *window] += mean + (code @ atoms).reshape(3, side, side)
                count[window] += 1
        result /= count
    # of the single precision that images are transformed in
    np.testing.assert_allclose(purify(D3(dictionary, sparsity, stride), images), expected.clip(0, 1), atol=1e-5)


def test_identity_patches_of_the_dictionary_come_back(natural_images):
    images = natural_images[:4].double()
    defense = D3(dictionary_of(natural_images[:4]), 1, 8)  # without overlap, each patch is an atom, or nearly flat
    restored, _ = defense.linearised("exact")(images, [0] * 4)
    assert float((restored - images).abs().max()) < 0.1
    assert float(psnr(restored, images).min()) > 45


def test_invariant_more_atoms_keep_more_of_an_image(images, dictionary):
    ratios = [psnr(purify(D3(dictionary, sparsity, 4), images), images) for sparsity in (1, 3, 5, 12)]
    assert all(bool((more > fewer).all()) for fewer, more in itertools.pairwise(ratios))
    assert float(ratios[2].min()) > 20


@pytest.mark.parametrize("size", [(8, 8), (9, 30), (32, 32)])
def test_agrees_the_exact_gradient_with_finite_differences(natural_images, dictionary, size):
    generator = torch.Generator().manual_seed(0)
    images = natural_images[:3, :, : size[0], : size[1]].double()
    images = images + 0.02 * torch.rand(images.shape, generator=generator, dtype=torch.float64)  # no patch is flat
    images[0] = images[0] * 3 - 1  # some results are clipped
    transform = D3(dictionary, 4, 4).linearised("exact")
    output, pullback = transform(images, [0] * 3)
    for _ in range(3):
        direction, v = (torch.randn(images.shape, generator=generator, dtype=torch.float64) for _ in range(2))
        step = 1e-7
        moved = [transform(images + sign * step * direction, [0] * 3)[0] for sign in (1, -1)]
        difference = ((moved[0] - moved[1]) * v).flatten(1).sum(1) / (2 * step)
        # T is linear where the atoms stay the same; what is left is the rounding of float64, over the step
        torch.testing.assert_close(difference, (pullback(v) * direction).flatten(1).sum(1), rtol=1e-6, atol=1e-6)
    assert torch.equal(transform(images, [0] * 3)[0], output)


def test_identity_a_flat_patch_passes_the_mean_of_the_gradient(dictionary):
    _, pullback = D3(dictionary, 4, 8).linearised("exact")(torch.full((1, 3, 8, 8), 0.3), [0])
    v = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(pullback(v), v.mean((2, 3), keepdim=True).expand_as(v))


def test_identity_names_the_dictionary_and_what_is_done_with_it(dictionary):
    one = D3(dictionary, 4, 4).identity()
    assert one == {"defense": "d3", "dictionary": "0", "sparsity": 4, "stride": 4}
    assert D3(dictionary, 4, 2).identity() != one


def test_refuses_images_smaller_than_a_patch_and_strides_beyond_one(dictionary):
    with pytest.raises(TensorError, match=r"sides of at least 8.*7 x 12"):
        purify(D3(dictionary, 4, 4), torch.zeros(1, 3, 7, 12))
    with pytest.raises(ConfigError, match="stride out of range; expected 1 to 8"):
        D3(dictionary, 4, 9)


def test_refuses_a_stride_beyond_the_patch_before_anything_is_fitted():
    with pytest.raises(ConfigError, match="stride: pixels would lie between patches; expected at most patch, 6; got 7"):
        options_of("d3", {"patch": 6, "stride": 7})
    assert (
        options_of("d3", {"patch": 6, "stride": 7, "load": "/elsewhere"}).stride == 7
    )  # whose patches are not known yet


def test_roundtrip_a_dictionary_is_what_was_saved(dictionary, tmp_path):
    digests = [dictionary.save(str(tmp_path / name), {"made": name}) for name in "ab"]
    one, two = (PatchDictionary.load(str(tmp_path / name)) for name in "ab")
    assert torch.equal(one.atoms, dictionary.atoms)
    assert one.digest == two.digest and digests[0] != digests[1]


@pytest.mark.parametrize("broken", ["shape", "type", "norm", "mean", "nan"])
def test_refuses_what_is_no_dictionary(dictionary, broken):
    atoms = dictionary.atoms
    other = {
        "shape": atoms[:, :1],
        "type": atoms.double(),
        "norm": atoms * 1.01,
        "mean": (atoms + 0.05) / (atoms + 0.05).flatten(1).norm(dim=1)[:, None, None, None],
        "nan": atoms * torch.nan,
    }[broken]
    with pytest.raises(TensorError):
        PatchDictionary(other, digest="0")

from itertools import product

import numpy as np
import pytest
import torch

from stl_ray.defenses.quilting import Quilting, QuiltingOptions
from stl_ray.defenses.quilting_library import PatchLibrary
from stl_ray.errors import TensorError
from stl_ray.images import quantize
from stl_ray.training.defenses.patches import draw_patches, smallest_keys


@pytest.fixture(scope="session")
def library(natural_images) -> PatchLibrary:
    pixels = (natural_images[8:] * 255).byte().permute(0, 2, 3, 1).numpy()
    drawn = [
        draw_patches(image, f"train/{number}", 50, side=5, seed=0, purpose="quilting patch")
        for number, image in enumerate(pixels)
    ]
    patches = torch.from_numpy(smallest_keys(drawn, 700)[1])
    # Patches of one place, shifted, have equal pixels, across which the reference's seam does not paste.
    noise = torch.randint(-9, 10, patches.shape, generator=torch.Generator().manual_seed(0))
    return PatchLibrary((patches + noise).clamp(0, 255).byte())


@pytest.fixture(scope="session")
def images(natural_images) -> torch.Tensor:
    return quantize(natural_images[:3])


def quilting(library: PatchLibrary, **options) -> Quilting:
    return Quilting(library, QuiltingOptions(**options))


def quilted(defense: Quilting, images: torch.Tensor) -> torch.Tensor:
    return defense.purify(images, seeds=[5 + 3 * number for number in range(len(images))]).images


def pasted(image: np.ndarray, patches: np.ndarray, starts: list[tuple[int, int]]) -> np.ndarray:
    """Every patch's nearest one in float64, put over what is there, as the published code does but for exact ties."""
    canvas = np.zeros_like(image)
    for y, x in starts:
        window = image[:, y : y + 5, x : x + 5].reshape(-1)
        nearest = np.square(patches - window).sum(1).argmin()
        canvas[:, y : y + 5, x : x + 5] = patches[nearest].reshape(3, 5, 5)
    return canvas


@pytest.mark.parametrize(
    ("border", "size", "rows", "columns"),
    [
        ("cover", (32, 32), range(0, 28, 3), range(0, 28, 3)),
        ("cover", (11, 20), range(0, 7, 3), range(0, 16, 3)),
        ("reference", (32, 32), range(0, 27, 3), range(0, 27, 3)),
        ("reference", (12, 13), range(0, 7, 3), range(0, 8, 3)),
    ],
)
def test_agrees_with_pasting_one_patch_after_the_other(library, images, border, size, rows, columns):
    small = images[..., : size[0], : size[1]]
    made = quilted(quilting(library, border=border), small)
    for image, one in zip(small, made, strict=True):
        expected = pasted(
            (image.double() * 255).numpy(), library.patches.double().numpy(), list(product(rows, columns))
        )
        np.testing.assert_allclose(one.double().numpy() * 255, expected, atol=1e-4)  # of float32's division by 255


@pytest.mark.parametrize("seam", ["reference", "cut"])
def test_invariant_what_does_not_fit_into_the_grid_is_quilted_too(library, images, seam):
    """The image goes on with its last rows and columns until the grid fits."""
    defense = quilting(library, seam=seam)
    odd = images[..., :22, :30]
    longer = torch.nn.functional.pad(odd, (0, 2, 0, 1), mode="replicate")
    assert torch.equal(quilted(defense, odd), quilted(defense, longer)[..., :22, :30])


def test_identity_the_reference_leaves_the_last_three_rows_and_columns_black(library, images):
    made = quilted(quilting(library, border="reference"), images)
    assert not made[..., 29:, :].any() and not made[..., 29:].any()
    assert bool((made[..., :29, :29].amax(1) > 0).all())


def test_identity_each_patch_becomes_one_of_its_nearest_at_random(library, images):
    """In the first patch's own corner, which no other overlaps."""
    first = images[:, :, :5, :5].flatten(1) * 255
    nearest = library.nearest(first.round(), 3)
    corners = library.patches[nearest].view(-1, 3, 3, 5, 5)[..., :3, :3].float()
    defense, seen = quilting(library, neighbours=3), set()
    for seed in range(30):
        made = (defense.purify(images, seeds=[seed] * len(images)).images * 255).round()[:, None, :, :3, :3]
        which = (made == corners).flatten(2).all(2)
        assert bool(which.any(1).all())
        seen |= {(row, int(choice)) for row, choice in enumerate(which.int().argmax(1))}
    assert len(seen) == 9


@pytest.mark.parametrize("seam", ["reference", "cut"])
def test_invariant_an_image_alone_and_in_a_batch(library, images, seam):
    defense = quilting(library, neighbours=4, seam=seam)
    whole = defense.purify(images, seeds=[1, 2, 3]).images
    for rows in ([0], [2], [2, 0, 1]):
        assert torch.equal(defense.purify(images[rows], seeds=[row + 1 for row in rows]).images, whole[rows])
    assert not torch.equal(defense.purify(images, seeds=[4, 5, 6]).images, whole)


def test_identity_randomised_with_a_choice_only(library, images):
    assert quilting(library, neighbours=2).randomised
    nearest = quilting(library)
    assert not nearest.randomised
    assert torch.equal(nearest.purify(images, seeds=[1, 2, 3]).images, nearest.purify(images, seeds=[4, 5, 6]).images)


def test_invariant_the_seams_differ(library, images):
    assert not torch.equal(*(quilted(quilting(library, seam=seam), images) for seam in ("reference", "cut")))


def test_identity_everything_that_changes_a_byte(library):
    identities = [
        quilting(library, **options).identity()
        for options in ({}, {"neighbours": 2}, {"seam": "cut"}, {"border": "reference"})
    ]
    identities.append(quilting(PatchLibrary(library.patches[1:])).identity())
    assert len({str(identity) for identity in identities}) == 5


def test_refuses_more_neighbours_than_patches_and_images_no_larger_than_one(library, images):
    with pytest.raises(TensorError, match="1 to 700"):
        quilted(quilting(library, neighbours=701), images)
    with pytest.raises(TensorError, match="sides over 5"):
        quilted(quilting(library), images[..., :5, :])

import numpy as np
import pytest
import torch

from stl_ray.defenses.patch_dictionary import PatchDictionary
from stl_ray.errors import TrainingError
from stl_ray.images import to_uint8
from stl_ray.training.defenses.patch_dictionary import choose_atoms, normalised
from stl_ray.training.defenses.patches import draw_patches


@pytest.fixture(scope="module")
def candidates(natural_images) -> np.ndarray:
    drawn = [
        draw_patches(image, str(number), 90, side=6, seed=0, purpose="a test")[1]
        for number, image in enumerate(to_uint8(natural_images))
    ]
    return np.concatenate(drawn)


def brute_force(candidates: np.ndarray, atoms: int, similarity: float) -> np.ndarray:
    chosen = np.zeros((0, 108))
    for candidate in candidates.astype(np.float64) / 255:
        detail = candidate.reshape(3, 36) - candidate.reshape(3, 36).mean(1, keepdims=True)
        if (detail**2).mean() ** 0.5 < 1 / 255:
            continue
        patch = detail.ravel() / np.linalg.norm(detail)
        if len(chosen) < atoms and (np.abs(chosen @ patch) <= similarity).all():
            chosen = np.concatenate([chosen, patch[None]])
    return chosen


@pytest.mark.parametrize(("atoms", "similarity"), [(300, 0.9), (50, 0.6), (700, 0.99)])
def test_agrees_with_one_candidate_after_another(candidates, atoms, similarity):
    chosen = choose_atoms(candidates, side=6, atoms=atoms, similarity=similarity)
    expected = brute_force(candidates, atoms, similarity)
    np.testing.assert_allclose(chosen.flatten(1).numpy(), expected, atol=1e-6)  # float32
    PatchDictionary(chosen, digest="0")


def test_invariant_atoms_differ_whatever_their_sign(candidates):
    chosen = choose_atoms(candidates, side=6, atoms=200, similarity=0.8).flatten(1)
    cosines = (chosen @ chosen.T).abs().fill_diagonal_(0)
    assert float(cosines.max()) <= 0.8 + 1e-6
    mirrored = choose_atoms(np.concatenate([candidates, 255 - candidates]), side=6, atoms=200, similarity=0.8)
    assert torch.equal(mirrored.flatten(1), chosen)


def test_identity_flat_patches_are_no_candidates():
    flat = torch.full((2, 3, 4, 4), 77, dtype=torch.uint8)
    flat[1, 0, 2, 2] += 1  # by the rounding to 8 bits
    edge = flat[:1].clone()
    edge[:, :, :2] += 40
    patches = normalised(torch.cat([flat, edge]))
    assert patches.shape == (1, 3, 4, 4)
    torch.testing.assert_close(patches.abs(), torch.full_like(patches, 48**-0.5))
    assert not choose_atoms(torch.cat([flat, edge]).flatten(1).numpy(), side=4, atoms=1, similarity=0.9).isnan().any()


def test_refuses_too_few_that_differ(candidates):
    with pytest.raises(TrainingError, match=r"2160 candidates.*expected 100 atoms; got \d+") as caught:
        choose_atoms(candidates, side=6, atoms=100, similarity=0.2)
    assert caught.value.got < 100

"""Seams against all the cuts there are, and against max-flow."""

from itertools import product

import numpy as np
import pytest
import torch

from stl_ray.defenses.quilting_seams import OVERLAP, SIDE, cut, reference

PIXELS = list(product(range(SIDE), range(SIDE)))
EDGES = [
    (a, b)
    for a, (y, x) in enumerate(PIXELS)
    for b, pixel in enumerate(PIXELS)
    if pixel in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
]
PLACES = [(True, True), (True, False), (False, True)]


def pair(levels: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Old and new pixels of some patches; with few levels costs tie often."""
    drawn = torch.randint(0, levels, (2, 6, 3, 25), generator=torch.Generator().manual_seed(seed)).float()
    return drawn[0], drawn[1]


def least_new_side(old: np.ndarray, new: np.ndarray, above: bool, left: bool) -> np.ndarray:
    """The pixels that turn new in every minimum cut, of all cuts."""
    bound_old = [(above and y == 0) or (left and x == 0) for y, x in PIXELS]
    bound_new = [y >= OVERLAP * above and x >= OVERLAP * left for y, x in PIXELS]
    free = [pixel for pixel in range(25) if not bound_old[pixel] and not bound_new[pixel]]
    costs = {(a, b): np.abs(new[:, b] - old[:, a]).sum() for a, b in EDGES}
    cuts = []
    for choice in product([False, True], repeat=len(free)):
        taken = np.array(bound_new)
        taken[free] = choice
        cuts.append((sum(cost for (a, b), cost in costs.items() if taken[b] and not taken[a]), taken))
    least = min(cost for cost, _ in cuts)
    return np.logical_and.reduce([taken for cost, taken in cuts if cost == least])


@pytest.mark.parametrize("levels", [2, 3, 256])
@pytest.mark.parametrize(("above", "left"), PLACES)
def test_agrees_the_cut_with_all_cuts(levels, above, left):
    old, new = pair(levels, seed=levels)
    taken = cut(old, new, above, left)
    for one, before, after in zip(taken.numpy(), old.double().numpy(), new.double().numpy(), strict=True):
        np.testing.assert_array_equal(one, least_new_side(before, after, above, left))
    assert 0 < int(taken[:, 1:].sum()) < taken.numel()


def reaches_what_is_new(old: np.ndarray, new: np.ndarray, above: bool, left: bool) -> np.ndarray:
    """The pixels that max-flow leaves on the side of the sink where no pixel is bound to the source."""
    taken = {pixel for pixel, (y, x) in enumerate(PIXELS) if y >= OVERLAP * above and x >= OVERLAP * left}
    waiting = list(taken)
    while waiting:
        end = waiting.pop()
        for a, b in EDGES:
            if b == end and a not in taken and np.abs(new[:, b] - old[:, a]).sum() > 0:
                taken.add(a)
                waiting.append(a)
    return np.array([pixel in taken for pixel in range(25)])


@pytest.mark.parametrize("levels", [1, 2, 256])
@pytest.mark.parametrize(("above", "left"), PLACES)
def test_agrees_the_reference_with_a_search_from_what_is_new(levels, above, left):
    old, new = pair(levels, seed=levels)
    old[:, 1], new[:, 1] = old[:, 0], new[:, 0]  # so that pixels are often equal in all channels
    taken = reference(old, new, above, left)
    for one, before, after in zip(taken.numpy(), old.numpy(), new.numpy(), strict=True):
        np.testing.assert_array_equal(one, reaches_what_is_new(before, after, above, left))
    if levels != 2:
        assert bool(taken.all()) == (levels == 256)


@pytest.mark.parametrize("seam", [cut, reference])
def test_identity_the_first_patch_is_taken_whole(seam):
    assert bool(seam(*pair(2, seed=0), False, False).all())


def test_agrees_the_cut_with_what_boykov_and_kolmogorovs_max_flow_said_of_these_pixels():
    old = torch.tensor([[(17 * pixel + 5 * channel) % 256 for pixel in range(25)] for channel in range(3)]).float()
    new = torch.tensor([[(29 * pixel + 3 * channel) % 256 for pixel in range(25)] for channel in range(3)]).float()
    taken = cut(old, new, above=True, left=True)
    assert "".join(str(int(one)) for one in taken) == "0000000000001110111101111"  # version 3.04 of their library

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp

from stl_ray.defenses.matching_pursuit import TILE, approximated, matching_pursuit, project
from stl_ray.errors import TensorError


def unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


def random_problem(signals: int, atoms: int, size: int, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(signals, size, generator=generator, dtype=dtype),
        unit(torch.randn(atoms, size, generator=generator, dtype=dtype)),
    )


def natural_problem(images: torch.Tensor):
    """Patches of 8 x 8 without their channels' means, and none that is flat: some as signals, the others as atoms."""
    patches = images.double().unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    centred = (patches - patches.mean((2, 3), keepdim=True)).flatten(1)
    centred = centred[centred.norm(dim=1) > 0.1]
    return centred[:100], unit(centred[100:])


@pytest.mark.parametrize("sparsity", [1, 4, 5])
@pytest.mark.parametrize("kind", ["random", "natural"])
def test_agrees_with_scikit_learn(natural_images, kind, sparsity):
    signals, atoms = random_problem(90, 300, 48) if kind == "random" else natural_problem(natural_images)
    support, basis = matching_pursuit(signals, atoms, sparsity)
    expected = orthogonal_mp(atoms.T.numpy(), signals.T.numpy(), n_nonzero_coefs=sparsity).T
    for row, chosen in enumerate(support):
        assert set(chosen.tolist()) == set(np.flatnonzero(expected[row]).tolist())
    used = atoms[support].transpose(1, 2)
    found = torch.linalg.lstsq(used, project(signals, basis)[..., None]).solution[..., 0]
    coefficients = torch.zeros(len(signals), len(atoms), dtype=torch.float64).scatter_(1, support, found)
    # float64 on both sides; scikit-learn solves the normal equations, whose condition is the square of the atoms'
    np.testing.assert_allclose(coefficients.numpy(), expected, atol=1e-8)


def test_agrees_the_first_atoms_with_those_of_a_smaller_sparsity():
    signals, atoms = random_problem(20, 100, 30)
    longer, basis = matching_pursuit(signals, atoms, 5)
    shorter, part = matching_pursuit(signals, atoms, 2)
    assert torch.equal(longer[:, :2], shorter)
    assert torch.equal(basis[:, :2], part)


def test_identity_the_basis_is_orthonormal_and_spans_almost_parallel_atoms():
    signals, atoms = random_problem(40, 6, 30, torch.float32)
    atoms[1:] = unit(atoms[0] + 1e-3 * atoms[1:])
    support, basis = matching_pursuit(signals, atoms, 4)
    gram = (basis @ basis.transpose(1, 2)).double()
    # of the order of one rounding, although atoms that differ by 1e-3 are orthogonalised
    torch.testing.assert_close(gram, torch.eye(4, dtype=torch.float64).expand_as(gram), atol=1e-6, rtol=0)
    for step in range(4):
        member = atoms[support[:, step]]
        torch.testing.assert_close(project(member, basis[:, : step + 1]), member, atol=1e-6, rtol=0)


def test_invariant_a_signal_alone_in_a_batch_and_shuffled():
    signals, atoms = random_problem(TILE + 30, 500, 48, torch.float32)
    atoms[250:] = unit(atoms[:250] + 1e-8)  # a choice that rounding decides
    whole = matching_pursuit(signals, atoms, 5)
    order = torch.randperm(len(signals), generator=torch.Generator().manual_seed(1))
    for rows in (torch.tensor([7]), torch.arange(3, 50), order):
        for part, expected in zip(matching_pursuit(signals[rows], atoms, 5), whole, strict=True):
            assert torch.equal(part, expected[rows])
        assert torch.equal(approximated(signals[rows], atoms, 5), project(signals, whole[1])[rows])


def test_identity_a_signal_stops_on_its_own_when_nothing_is_left():
    _, atoms = random_problem(1, 60, 48, torch.float32)
    signals = torch.stack([torch.zeros(48), -3 * atoms[11], 2 * atoms[4] + 1e-3 * atoms[5], atoms[:40].sum(0)])
    support, basis = matching_pursuit(signals, atoms, 5)
    assert (support >= 0).sum(1).tolist() == [0, 1, 2, 5]
    assert [support[1, 0], *support[2, :2]] == [11, 4, 5]
    torch.testing.assert_close(project(signals[:3], basis[:3]), signals[:3])
    assert bool((basis[support < 0] == 0).all())


def test_identity_ties_go_to_the_first_and_equal_atoms_are_used_once():
    axes = torch.eye(4)
    atoms = torch.cat([axes[:2], axes[:2], -axes[:2]])
    support, basis = matching_pursuit(torch.tensor([[1.0, 1, 0, 0], [2, 3, 1, 0]]), atoms, 3)
    assert support.tolist() == [[0, 1, -1], [1, 0, -1]]
    assert bool(basis.isfinite().all())


def test_identity_degenerate_dictionaries():
    signals, atoms = random_problem(3, 2, 6, torch.float32)
    atoms[0] = 0  # an atom of norm 0 explains nothing
    support, basis = matching_pursuit(signals, atoms, 4)
    assert support.tolist() == [[1, -1, -1, -1]] * 3
    assert bool(basis.isfinite().all())


def test_invariant_each_atom_leaves_less_of_the_signal():
    signals, atoms = random_problem(10, 80, 20)
    _, basis = matching_pursuit(signals, atoms, 6)
    left = [(signals - project(signals, basis[:, :step])).norm(dim=1) for step in range(7)]
    assert all(bool((after < before).all()) for before, after in itertools.pairwise(left))


@pytest.mark.parametrize(
    ("signals", "atoms", "sparsity"),
    [((2, 3), (4, 5), 1), ((0, 3), (4, 3), 1), ((2, 3), (0, 3), 1), ((2, 3), (4, 3), 0)],
)
def test_refuses_what_does_not_fit(signals, atoms, sparsity):
    with pytest.raises(TensorError):
        matching_pursuit(torch.zeros(signals), torch.zeros(atoms), sparsity)

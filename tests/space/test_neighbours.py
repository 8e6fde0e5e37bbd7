"""Against a search through all references in float64: indices and distances to the last bit."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stl_ray.errors import TensorError
from stl_ray.space import neighbours
from stl_ray.space.neighbours import MARGIN, Neighbours, squared_distances

Points = Callable[[int], tuple[Tensor, Tensor]]


def brute_force(references: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    squares = squared_distances(queries[:, None], references)
    squares, indices = squares.sort(dim=1, stable=True)
    return indices[:, :k], squares[:, :k].sqrt()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def spread(seed: int) -> tuple[Tensor, Tensor]:
    return normal(700, 24, seed=seed), normal(20, 24, seed=seed + 1)


def clustered(seed: int) -> tuple[Tensor, Tensor]:
    """Tight groups far apart: distances are tiny beside the norms."""
    centres, which = 30 * normal(9, 24, seed=seed), torch.arange(720) % 9
    points = centres[which] + 1e-3 * normal(720, 24, seed=seed + 1)
    return points[:700], points[700:]


def duplicated(seed: int) -> tuple[Tensor, Tensor]:
    """Every point a hundred times, and queries among them."""
    points = normal(7, 24, seed=seed)
    return points.repeat(100, 1), torch.cat([points, normal(5, 24, seed=seed + 1)])


def far_off(seed: int) -> tuple[Tensor, Tensor]:
    """An offset at which a float32 has two digits left behind the point."""
    references, queries = spread(seed)
    return references + 1e5, queries + 1e5


def with_outliers(seed: int) -> tuple[Tensor, Tensor]:
    references, queries = spread(seed)
    references[::70] *= 1e6
    queries[::7] *= 1e6
    return references, queries


def tiny(seed: int) -> tuple[Tensor, Tensor]:
    """Squares underflow in float32."""
    references, queries = spread(seed)
    return references * 1e-25, queries * 1e-25


def huge(seed: int) -> tuple[Tensor, Tensor]:
    """Squares overflow in float32."""
    references, queries = spread(seed)
    return references * 1e25, queries * 1e25


DATA = [spread, clustered, duplicated, far_off, with_outliers, tiny, huge]


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("k", [1, 2, 15, 50])
def test_agrees_with_brute_force(data: Points, k: int) -> None:
    for seed in range(3):
        references, queries = data(10 * seed)
        indices, distances = Neighbours(references).nearest(queries, k)
        expected = brute_force(references, queries, k)
        assert torch.equal(indices, expected[0])
        assert torch.equal(distances, expected[1])


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("k", [1, 15, 50])
def test_agrees_with_brute_force_without_the_query_s_own(data: Points, k: int) -> None:
    references, _ = data(0)
    ids = torch.arange(len(references)) // 3  # three references of one id
    own = torch.tensor([0, 33, 99, 500, 699])
    squares = squared_distances(references[own][:, None], references)
    squares, expected = squares.masked_fill(ids[own][:, None] == ids, torch.inf).sort(dim=1, stable=True)
    indices, distances = Neighbours(references, ids).nearest(references[own], k, exclude=ids[own])
    assert torch.equal(indices, expected[:, :k])
    assert torch.equal(distances, squares[:, :k].sqrt())
    assert not (ids[indices] == ids[own][:, None]).any()


def test_identity_more_excluded_than_the_margin() -> None:
    references, queries = spread(0)
    nearest = brute_force(references, queries[:1], MARGIN + 10)[0][0]
    ids = torch.zeros(len(references), dtype=torch.int64)
    ids[nearest] = 1
    indices, distances = Neighbours(references, ids).nearest(queries[:1], 15, exclude=torch.tensor([1]))
    expected = brute_force(references, queries[:1], MARGIN + 25)
    assert torch.equal(indices, expected[0][:, MARGIN + 10 :])
    assert torch.equal(distances, expected[1][:, MARGIN + 10 :])


def test_identity_what_is_excluded_beyond_all_others_is_infinitely_far() -> None:
    references, queries = spread(0)
    ids = torch.ones(30, dtype=torch.int64)
    ids[[4, 8]] = 0
    _, distances = Neighbours(references[:30], ids).nearest(queries, 3, exclude=torch.ones(20, dtype=torch.int64))
    assert distances[:, :2].isfinite().all()
    assert distances[:, 2].isinf().all()


@pytest.mark.parametrize("data", DATA)
def test_invariant_blocks_and_batches(data: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    references, queries = data(0)
    expected = Neighbours(references).nearest(queries, 15)
    alone = [Neighbours(references).nearest(query[None], 15) for query in queries]
    for scores, terms, size in ((64, 2**22, 512), (2**24, 100, 512), (2**24, 2**22, 3)):
        monkeypatch.setattr(neighbours, "SCORES", scores)
        monkeypatch.setattr(neighbours, "TERMS", terms)
        monkeypatch.setattr(neighbours, "QUERIES", size)
        found = Neighbours(references).nearest(queries, 15)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    for part, whole in zip(zip(*alone, strict=True), expected, strict=True):
        assert torch.equal(torch.cat(part), whole)


def test_identity_sums_are_folded_in_half() -> None:
    def folded(terms: list[float]) -> float:
        half = len(terms) // 2
        rest = [a + b for a, b in zip(terms[:half], terms[half:], strict=False)] + terms[2 * half :]
        return terms[0] if len(terms) == 1 else folded(rest)

    for seed, width in enumerate((1, 2, 3, *[7] * 20, *[128] * 20)):
        query, point = normal(width, seed=seed), normal(width, seed=seed + 100)
        terms = [(a - b) ** 2 for a, b in zip(query.tolist(), point.tolist(), strict=True)]
        assert float(squared_distances(query, point)) == folded(terms)


def test_invariant_sums_of_any_shape_have_the_same_bits() -> None:
    references, queries = spread(0)
    one_by_one = torch.stack([torch.stack([squared_distances(q, r) for r in references[:40]]) for q in queries])
    assert torch.equal(squared_distances(queries[:, None], references[:40]), one_by_one)
    expected = (queries[:, None].double() - references[:40].double()).square().sum(-1)
    torch.testing.assert_close(one_by_one, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("width", [1, 2, 3, 5, 17])
def test_agrees_with_brute_force_in_any_dimension(width: int) -> None:
    references, queries = normal(300, width), normal(9, width, seed=1)
    found, expected = Neighbours(references).nearest(queries, 15), brute_force(references, queries, 15)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("data", [spread, clustered, far_off, with_outliers])
def test_certificate_scores_lie_within_their_bounds(data: Points) -> None:
    references, queries = data(0)
    index = Neighbours(references)
    centred = (queries.double() - index._mean).float()
    points, norms = index._screen
    scores = norms - centred @ points.T
    distances = squared_distances(queries[:, None], references).sqrt()
    low, high = index._score_bounds(centred, distances)
    assert (low <= scores).all()
    assert (scores <= high).all()
    # The bounds are of use: what is added up is of the size of the squared norms.
    size = centred.norm(dim=1)[:, None] + points.norm(dim=1)
    assert ((high - low) / size**2).median() < 2e-5


def test_certificate_most_queries_need_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("looked twice")

    references, queries = spread(0)
    expected = Neighbours(references).nearest(queries, 15)
    monkeypatch.setattr(Neighbours, "_search", refuse)
    for scores in (neighbours.SCORES, 20 * 64):
        monkeypatch.setattr(neighbours, "SCORES", scores)
        assert torch.equal(Neighbours(references).nearest(queries, 15)[0], expected[0])
    with pytest.raises(AssertionError, match="twice"):
        Neighbours(duplicated(0)[0]).nearest(queries, 15)


@pytest.mark.parametrize("digits", [8, 11])
@pytest.mark.parametrize("data", [spread, clustered, duplicated])
def test_certificate_holds_where_matrix_products_are_rounded(
    data: Points, digits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As bfloat16 (8 binary digits) and TF32 (11) products are, where a user allows them for float32 matrices."""
    exact = torch.addmm

    def rounded(points: Tensor) -> Tensor:
        mantissa, exponent = torch.frexp(points)
        return torch.ldexp((mantissa * 2**digits).round() / 2**digits, exponent)

    def coarse(norms: Tensor, queries: Tensor, references: Tensor, *, alpha: float, out: Tensor) -> Tensor:
        return exact(norms, rounded(queries), rounded(references), alpha=alpha, out=out)

    references, queries = data(0)
    expected = Neighbours(references).nearest(queries, 15)
    monkeypatch.setattr(torch, "addmm", coarse)
    found = Neighbours(references).nearest(queries, 15)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_invariant_of_autocast() -> None:
    references, queries = spread(0)
    expected = Neighbours(references).nearest(queries, 15)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Neighbours(references).nearest(queries, 15)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_identity_no_queries() -> None:
    indices, distances = Neighbours(normal(9, 4)).nearest(normal(0, 4), 3)
    assert indices.shape == distances.shape == (0, 3)


def test_refuses_what_is_no_query() -> None:
    index = Neighbours(normal(9, 4))
    for k in (0, 10):
        with pytest.raises(TensorError, match="k out of range"):
            index.nearest(normal(2, 4), k)
    for queries in (normal(2, 5), normal(4)):
        with pytest.raises(TensorError, match="not queries"):
            index.nearest(queries, 1)


@pytest.mark.gpu
@pytest.mark.parametrize("data", DATA)
def test_invariant_of_the_device(data: Points) -> None:
    references, queries = data(0)
    expected = Neighbours(references).nearest(queries, 15)
    found = Neighbours(references.cuda()).nearest(queries.cuda(), 15)
    assert all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))

"""Exact k nearest neighbours by matrix products, with a certificate for every query.

    screen     a matrix product scores every reference, |r|^2 / 2 - q.r in float32, block by block; the best are candidates
    re-rank    candidates by their distance, from differences in float64
    certify    a reference as near as the k-th can score no more than a proven limit; where references beyond the
               candidates may score no more, all within the limit are searched

The answer is that of a float64 search through all references, ties by the lower index: it depends neither on blocks nor
on other queries, nor on the device, nor on how a matrix product is summed.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stl_ray.errors import TensorError

SCORES = 2**24
"""Scores of a block, 64 MB."""

TERMS = 2**22
"""Terms of the distances that are summed at once, 32 MB."""

QUERIES = 512
"""Queries that are screened together, at most."""

MARGIN = 17
"""Candidates beyond the k nearest: room for the rounding of the scores, and for an excluded reference."""

UNIT, TINY = 2.0**-24, 2.0**-126
"""Largest relative rounding error of a float32, and the largest error where it underflows."""


def squared_distances(queries: Tensor, references: Tensor) -> Tensor:
    """The sum of (q - r)^2 over the last dimension in float64: the same bits whatever the shapes and the device.

    Args:
        queries: (..., p).
        references: (..., p), of a shape that broadcasts with the queries'.
    """
    terms = (queries.double() - references.double()).square()
    while (width := terms.shape[-1]) > 1:
        half = width // 2
        folded = terms[..., :half] + terms[..., half : 2 * half]
        terms = folded if width == 2 * half else torch.cat([folded, terms[..., -1:]], -1)
    return terms[..., 0]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """A set of reference points to find nearest neighbours among.

    Args:
        references: (N, p) float32, finite; queries are looked for on their device.
        ids: (N,) int64, by which a query leaves references out.
    """

    references: Tensor
    ids: Tensor | None = None

    @torch.no_grad()
    def nearest(self, queries: Tensor, k: int, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The `k` nearest references of every query, from the nearest on.

        Args:
            queries: (B, p) float32.
            k: 1 to N.
            exclude: (B,) int64; references of that id are infinitely far from the query.

        Returns:
            (B, k) int64 indices and (B, k) float64 Euclidean distances.

        Raises:
            TensorError: k is out of range, or the queries have another shape.
        """
        count, width = self.references.shape
        if not 1 <= k <= count:
            raise TensorError("k out of range", expected=f"1 to {count}", got=k)
        if queries.dim() != 2 or queries.shape[1] != width:
            raise TensorError("not queries", expected=f"(B, {width})", got=tuple(queries.shape))
        size = max(1, min(QUERIES, TERMS // (width * min(k + MARGIN, count))))
        with torch.autocast(queries.device.type, enabled=False):
            tiles = [
                self._nearest(queries[rows], k, None if exclude is None else exclude[rows])
                for rows in (slice(start, start + size) for start in range(0, len(queries), size))
            ]
        if not tiles:
            return queries.new_empty((0, k), dtype=torch.int64), queries.new_empty((0, k), dtype=torch.float64)
        indices, squares = (torch.cat(parts) for parts in zip(*tiles, strict=True))
        return indices, squares.sqrt()

    @cached_property
    def _mean(self) -> Tensor:
        """(p,) float64; rounding errors are relative to the distance from it."""
        return torch.stack([block.double().sum(0) for block in self._blocks()]).sum(0) / len(self.references)

    @cached_property
    def _screen(self) -> tuple[Tensor, Tensor]:
        """The centred references (N, p) and half their squared norms (N,), float32."""
        centred = [(block.double() - self._mean).float() for block in self._blocks()]
        norms = [block.double().square().sum(1) / 2 for block in centred]
        return torch.cat(centred), torch.cat(norms).float()

    def _blocks(self) -> tuple[Tensor, ...]:
        # Float64 copies of millions of references would be gigabytes.
        return torch.split(self.references, max(1, TERMS // self.references.shape[1]))

    def _nearest(self, queries: Tensor, k: int, exclude: Tensor | None) -> tuple[Tensor, Tensor]:
        """`nearest` for one tile of queries, with squared distances."""
        centred = (queries.double() - self._mean).float()
        candidates, scores = self._candidates(centred, min(k + MARGIN, len(self.references)))
        squares = squared_distances(queries[:, None], self.references[candidates])
        low, high = self._score_bounds(centred, squares.sqrt())
        # The scores themselves show whether the matrix product is as exact as float32 is; TF32, say, is not.
        trusted = ((low <= scores) & (scores <= high)).all(1)
        indices, squares = _ranked(candidates, self._without(squares, candidates, exclude), k)
        limit = self._score_bounds(centred, squares[:, -1:].sqrt())[1][:, 0]
        limit = limit.where(trusted, torch.inf)
        certified = scores[:, -1] > limit
        if candidates.shape[1] < len(self.references):
            for row in (~certified).nonzero()[:, 0].tolist():
                excluded = None if exclude is None else exclude[row]
                indices[row], squares[row] = self._search(queries[row], centred[row], limit[row], k, excluded)
        return indices, squares

    def _candidates(self, centred: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Indices and scores (B, count) of the references with the smallest scores, from the smallest on."""
        references, norms = self._screen
        scores = centred.new_empty((len(centred), 0))
        indices = scores.long()
        block = SCORES // len(centred)
        # One buffer: fresh memory for every block costs half as much as the product.
        buffer = centred.new_empty(len(centred) * min(block, len(references)))
        for start in range(0, len(references), block):
            rows = slice(start, start + block)
            part = references[rows]
            added = buffer[: len(centred) * len(part)].view(len(centred), len(part))
            torch.addmm(norms[rows], centred, part.T, alpha=-1, out=added)
            added, where = added.topk(min(count, added.shape[1]), largest=False)
            scores, indices = torch.cat([scores, added], 1), torch.cat([indices, where + start], 1)
            scores, where = scores.topk(min(count, scores.shape[1]), largest=False)
            indices = indices.gather(1, where)
        return indices, scores

    def _score_bounds(self, centred: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Least and largest score that a reference at one of `distances` (B, n) from its query may have, float64.

        The exact score is (d^2 - |q|^2) / 2. The p products and p additions of a score, in any order, are off by (p + 1)
        UNIT of the sum of their magnitudes at most (Higham 2002, section 3.1), its |r|^2 / 2 by 2 UNIT of itself;
        centring moves q and r by UNIT of their norms, so it changes d by 2 UNIT (|q| + d), which is worth 4 UNIT more.
        """
        norm = centred.double().norm(dim=1, keepdim=True)
        reach = norm + distances  # at least the reference's norm
        # Doubled: terms of second order, and this bound's own arithmetic in float64.
        error = 2 * (centred.shape[1] + 7) * (UNIT * reach * (reach / 2 + norm) + TINY)
        exact = (distances.square() - norm.square()) / 2
        return exact - error, exact + error

    def _search(
        self, query: Tensor, centred: Tensor, limit: Tensor, k: int, exclude: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The k nearest (k,) of one query (p,) among all references that score no more than `limit`, with squares."""
        references, norms = self._screen
        scores = norms - references @ centred
        # A limit of NaN admits every reference.
        candidates = (~(scores.double() > limit)).nonzero()[:, 0]
        blocks = torch.split(candidates, max(1, TERMS // len(query)))
        squares = torch.cat([squared_distances(query, self.references[block]) for block in blocks])
        squares = self._without(squares[None], candidates[None], None if exclude is None else exclude[None])
        indices, squares = _ranked(candidates[None], squares, k)
        return indices[0], squares[0]

    def _without(self, squares: Tensor, candidates: Tensor, exclude: Tensor | None) -> Tensor:
        if exclude is None or self.ids is None:
            return squares
        return squares.masked_fill(self.ids[candidates] == exclude[:, None], torch.inf)


def _ranked(indices: Tensor, squares: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest of `squares` (B, n) and their indices, from the smallest on, ties by the lower index."""
    indices, order = indices.sort(1)
    squares, by_distance = squares.gather(1, order).sort(dim=1, stable=True)
    return indices.gather(1, by_distance)[:, :k], squares[:, :k]

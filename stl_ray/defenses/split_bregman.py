"""Total variation minimisation with missing pixels, by split Bregman iterations stopped early, and its exact gradient.

Every channel is a plane u of its own. With d in the place of its forward differences Du (zero across the border), b the
scaled multiplier, K the kept pixels and lambda = 2 mu (Goldstein & Osher 2009, section 4.1; Getreuer 2012),

    min over u   mu / 2 ||u - f||^2 on K  +  lambda / 2 ||d - Du - b||^2     some Gauss-Seidel sweeps:
                 u = (lambda (sum of the neighbours + D'(d - b)) + mu f) / (mu + n lambda) on K, n neighbours,
                 u = (sum of the neighbours + D'(d - b)) / n elsewhere
    min over d   penalty(d) + lambda / 2 ||d - t||^2 with t = Du + b         in closed form
    b = t - d

until the root mean square change of an image's u in an iteration is at most the tolerance. u starts at f, zero where
nothing was kept; d and b start at zero.

What published code (Guo et al. 2018, after scikit-image) does otherwise than the formulas, and is done here as well:

- `isotropic`: the closed form is d = t s lambda / (s lambda + 1), s = |t|. That is not the shrinkage of the norm |d| but of
  a smooth convex penalty, whose slope grows from 0 to 1 with |d|: lambda |d| = slope^2 / (1 - slope).
- `border` "reference": a pixel that was not kept is the sum over 4, also at the border, where it has fewer neighbours: it
  comes out darker. "renormalised" divides by their number.

Sweeps are red-black here and row by row there: the same rate and the same limit, other values on the way.

Every step is one correctly rounded operation of each element, and sums are taken in one order: an image comes out the
same to the last bit alone and in any batch, with any number of threads, on any instruction set.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stl_ray.defenses.checkerboard import ABOVE, BELOW, LEFT, RIGHT, Checkerboard, Field

Border = Literal["reference", "renormalised"]

TILE = 1 << 16
"""Pixels that are worked on together on a CPU, so that they stay in its caches; at least one image."""


@dataclass(frozen=True)
class SplitBregman:
    """The problem and how it is solved.

    Args:
        weight: of the total variation, 1 / mu.
        sweeps: Gauss-Seidel sweeps in every iteration.
        tolerance: root mean square change of u, in units of the pixels, at which an image is done.
        max_iterations: after which it is done in any case.
        isotropic: one penalty for both differences of a pixel, or one for each (their absolute values).
        border: see above.
    """

    weight: float = 0.03
    sweeps: int = 10
    tolerance: float = 0.01
    max_iterations: int = 100
    isotropic: bool = True
    border: Border = "reference"

    @property
    def lmbda(self) -> float:
        """The weight of the splitting."""
        return 2 / self.weight

    def solve(self, images: Tensor, kept: Tensor) -> Tensor:
        """The images with less variation, and with their missing pixels filled in.

        Args:
            images: (B, C, H, W), float32 or float64; what they hold where nothing was kept is of no consequence.
            kept: (B, C, H, W) bool.

        Returns:
            (B, C, H, W), of the type of the images; a little outside their range, maybe.
        """
        return torch.cat([solve.result for solve in self._tiles(images, kept, record=False)])

    def linearised(self, images: Tensor, kept: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """`solve`, and v -> J^T v with its Jacobian J in the images, for the iterations as they were taken.

        Memory until the product is dropped: twice the images for every iteration. The product costs about as much as
        the solution.
        """
        solves = self._tiles(images, kept, record=True)

        def pullback(v: Tensor) -> Tensor:
            parts = v.split([len(solve.result) for solve in solves])
            return torch.cat([solve.pullback(part) for solve, part in zip(solves, parts, strict=True)])

        return torch.cat([solve.result for solve in solves]), pullback

    def _tiles(self, images: Tensor, kept: Tensor, *, record: bool) -> "list[_Solve]":
        size = len(images) if images.is_cuda else max(1, TILE // images[0].numel())
        tiles = zip(images.detach().split(size), kept.split(size), strict=True)
        return [_Solve(self, image, mask, record=record) for image, mask in tiles]


class _Solve:
    """The iterations of some images, and what their gradient needs of them.

    Tensors are (2 colours, planes, cells), those of differences (2 directions, 2 colours, planes, cells).
    """

    def __init__(self, method: SplitBregman, images: Tensor, kept: Tensor, *, record: bool) -> None:
        self.method, self.channels, self.record = method, images.shape[1], record
        self.board = board = Checkerboard(*images.shape[2:])
        self.inside = board.inside(images)
        # u = scale (sum of the neighbours + D'(d - b)) + share f
        mask, mu, neighbours = kept.flatten(0, 1), 1 / method.weight, _neighbours(images)
        alone = neighbours if method.border == "renormalised" else torch.full_like(neighbours, 4)
        self.scale = board.split(torch.where(mask, method.lmbda / (mu + method.lmbda * neighbours), 1 / alone))
        self.share = board.split(torch.where(mask, mu / (mu + method.lmbda * neighbours), 0))
        self.kept = board.split(mask.to(images.dtype))
        self.iterations = torch.zeros(len(images), dtype=torch.long, device=images.device)
        self.history: list[tuple[Tensor, Tensor]] = []  # by iteration: the images that went on, and their t
        self.result = torch.empty_like(images)
        self._iterate(board.split(torch.where(mask, images.flatten(0, 1), 0)))

    def _iterate(self, start: Tensor) -> None:
        method, rows = self.method, torch.arange(len(self.result), device=start.device)
        u, scale, data = Field(self.board, start), self.scale, self.share * start
        b = torch.stack([start, start]).zero_()
        constant = data.clone()
        for iteration in range(1, method.max_iterations + 1):
            before = u.values.clone()
            _sweep(u, scale, constant, method.sweeps)
            last = iteration == method.max_iterations
            on = [not last and change > method.tolerance for change in self._changes(u.values, before)]
            if not all(on):
                going = torch.tensor(on, device=rows.device)
                self._finish(rows[~going], u.values[:, self._planes(~going)], iteration)
                rows, planes = rows[going], self._planes(going)
                u, scale, data, b = (
                    Field(self.board, u.values[:, planes]),
                    scale[:, planes],
                    data[:, planes],
                    b[:, :, planes],
                )
                constant = torch.empty_like(data)
            if not any(on):
                break
            t = _differences(u, self.inside).add_(b)
            if self.record:
                self.history.append((rows, t.clone()))
            _multiplier(t, method, out=b)
            _divergence(self.board, t.sub_(b, alpha=2), out=constant)  # D'(d - b), d = t - b
            constant.mul_(scale).add_(data)

    def _finish(self, rows: Tensor, values: Tensor, iteration: int) -> None:
        self.iterations[rows] = iteration
        self.result[rows] = self.board.join(values).unflatten(0, (-1, self.channels))

    def _planes(self, images: Tensor) -> Tensor:
        """Of a mask of the images, the mask of their planes."""
        return images.repeat_interleave(self.channels)

    def _changes(self, values: Tensor, before: Tensor) -> list[float]:
        """The root mean square change of every image."""
        squares = values.sub(before).square_()
        sums = _sum_rows(squares[0].add_(squares[1]).view(-1, self.channels * self.board.cells))
        pixels = self.channels * self.board.height * self.board.width
        return [math.sqrt(total / pixels) for total in sums.tolist()]

    def pullback(self, v: Tensor) -> Tensor:
        """J^T v, (B, C, H, W)."""
        product = torch.empty_like(v)
        for count in self.iterations.unique().tolist():
            taken = self.iterations == count
            steps = [t[:, :, self._planes(taken[rows])] for rows, t in self.history[: count - 1]]
            product[taken] = self._adjoint(v[taken], self._planes(taken), steps)
        return product

    def _adjoint(self, v: Tensor, planes: Tensor, steps: list[Tensor]) -> Tensor:
        """J^T v of images that took `len(steps) + 1` iterations: everything of `_iterate` backwards."""
        scale = self.scale[:, planes]
        u = Field(self.board, self.board.split(v.flatten(0, 1)))
        constant = _sweep_adjoint(u, scale, self.method.sweeps)
        data, b = constant, torch.zeros(())
        for t in reversed(steps):
            g = _differences(Field(self.board, constant * scale), self.inside)
            b = g + _multiplier_adjoint(t, self.method, b - 2 * g)
            u.values.add_(_divergence(self.board, b * self.inside, out=torch.empty_like(scale)))
            constant = _sweep_adjoint(u, scale, self.method.sweeps)
            data = data + constant
        f = self.share[:, planes] * data + self.kept[:, planes] * u.values
        return self.board.join(f).unflatten(0, (-1, self.channels))


def _sweep(u: Field, scale: Tensor, constant: Tensor, sweeps: int) -> None:
    """Sweeps of u = scale (sum of the neighbours) + constant, one colour after the other."""
    for _ in range(sweeps):
        for own, (right, left, below, above), factor, term in zip(u.values, u.neighbours, scale, constant, strict=True):
            torch.add(right, left, out=own).add_(below).add_(above).mul_(factor).add_(term)


def _sweep_adjoint(u: Field, scale: Tensor, sweeps: int) -> Tensor:
    """The gradient in the constant from that in u, which becomes the gradient in u before the sweeps."""
    constant = torch.zeros_like(scale)
    for _ in range(sweeps):
        for colour in (1, 0):
            own, other = u.values[colour], u.values[1 - colour]
            constant[colour].add_(own)
            own.mul_(scale[colour])
            for neighbour in u.neighbours[1 - colour]:
                other.add_(neighbour)
            own.zero_()
    return constant


def _differences(u: Field, inside: Tensor) -> Tensor:
    """Du: to the pixel on the right and to the one below, zero where there is none."""
    out = u.values.new_empty(2, *u.values.shape)
    for direction, values in zip((RIGHT, BELOW), out, strict=True):
        u.differences(direction, out=values)
    return out.mul_(inside)


def _divergence(board: Checkerboard, differences: Tensor, out: Tensor) -> Tensor:
    """D' of differences that are zero across the border."""
    right, below = (Field(board, values) for values in differences)
    right.differences(LEFT, out=out)
    return out.add_(below.differences(ABOVE, out=torch.empty_like(out)))


def _multiplier(t: Tensor, method: SplitBregman, out: Tensor) -> Tensor:
    """The next b = t - d, for the d that is best for t."""
    if not method.isotropic:
        return torch.clamp(t, -1 / method.lmbda, 1 / method.lmbda, out=out)
    return torch.div(t, _length(t).mul_(method.lmbda).add_(1), out=out)


def _multiplier_adjoint(t: Tensor, method: SplitBregman, v: Tensor) -> Tensor:
    """The gradient in t from that in b."""
    if not method.isotropic:
        return torch.where(t.abs() < 1 / method.lmbda, v, 0)
    length = _length(t)
    slope = length * method.lmbda + 1
    radial = torch.where(length > 0, (t * v).sum(0) * method.lmbda / (length * slope.square()), 0)
    return v / slope - t * radial


def _length(t: Tensor) -> Tensor:
    squares = t.square()
    return squares[0].add_(squares[1]).sqrt_()


def _neighbours(images: Tensor) -> Tensor:
    """(1, H, W): how many neighbours every pixel has; at least 1."""
    count = images.new_zeros(1, *images.shape[2:])
    for axis, extent in ((1, images.shape[2]), (2, images.shape[3])):
        count.narrow(axis, 1, extent - 1).add_(1)
        count.narrow(axis, 0, extent - 1).add_(1)
    return count.clamp_(min=1)


def _sum_rows(values: Tensor) -> Tensor:
    """(B, n) -> (B,), in an order that n alone decides; torch's own depends on the batch and the threads."""
    while (n := values.shape[1]) > 1:
        half = n // 2
        sums = values[:, :half] + values[:, half : 2 * half]
        sums[:, : n % 2] += values[:, 2 * half :]
        values = sums
    return values[:, 0]

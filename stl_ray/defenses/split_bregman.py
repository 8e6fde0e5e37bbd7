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
same to the last bit alone and in any batch, with any number of threads, on any instruction set. So it does from the native
core (native/split_bregman.hpp), which solves float32 images on a CPU; torch does what else there is, and all gradients.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stl_ray.csc import native
from stl_ray.defenses.checkerboard import ABOVE, BELOW, LEFT, RIGHT, Checkerboard, Field

Border = Literal["reference", "renormalised"]

Pair = Tensor | tuple[Tensor, Tensor]
"""Something of the differences to the right, and of those below; stacked, or not."""

TILE = 1 << 16
"""Pixels that are worked on together on a CPU, so that they stay in its caches; at least one image."""


@dataclass(frozen=True)
class SplitBregman:
    """The problem and how it is solved; the defaults are those of the published code.

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
        if native.available() and images.dtype == torch.float32 and images.device.type == "cpu":
            return self._natively(images, kept)
        return torch.cat([solve.result for solve in self._tiles(images, kept, record=False)])

    def linearised(self, images: Tensor, kept: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """`solve`, and v -> J^T v with its Jacobian J in the images, for the iterations as they were taken.

        Memory until the product is dropped: twice the images, and twice again for every iteration. A product costs about
        as much as a solution.
        """
        solves = list(self._tiles(images, kept, record=True))

        def pullback(v: Tensor) -> Tensor:
            parts = torch.split(v, [len(solve.result) for solve in solves])
            return torch.cat([solve.pullback(part) for solve, part in zip(solves, parts, strict=True)])

        return torch.cat([solve.result for solve in solves]), pullback

    def _natively(self, images: Tensor, kept: Tensor) -> Tensor:
        scale, share = self.weights(torch.tensor([[False], [True]]), torch.arange(5.0))
        restored = native.core.split_bregman(
            images.detach().contiguous().numpy(),
            kept.contiguous().numpy(),
            lmbda=self.lmbda,
            isotropic=self.isotropic,
            sweeps=self.sweeps,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            scale=scale.numpy(),
            share=share.numpy(),
            threads=torch.get_num_threads(),
            instruction_set=native.instruction_sets()[0],
        )
        return torch.from_numpy(restored)

    def weights(self, kept: Tensor, neighbours: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and share of pixels in the update u = scale (sum of the neighbours + D'(d - b)) + share f.

        Args:
            kept: bool.
            neighbours: how many, float, of a shape that broadcasts with that of `kept`.
        """
        mu, neighbours = 1 / self.weight, neighbours.clamp(min=1)
        divisor = mu + self.lmbda * neighbours
        alone = neighbours if self.border == "renormalised" else torch.full_like(neighbours, 4)
        return torch.where(kept, self.lmbda / divisor, 1 / alone), torch.where(kept, mu / divisor, 0)

    def _tiles(self, images: Tensor, kept: Tensor, *, record: bool) -> "Iterator[_Solve]":
        size = len(images) if images.is_cuda else max(1, TILE // images[0].numel())
        for tile, mask in zip(torch.split(images.detach(), size), torch.split(kept, size), strict=True):
            yield _Solve(self, tile, mask, record=record)


class _Solve:
    """The iterations of some images, and what their gradient needs of them.

    Tensors are (2 colours, planes, cells), those of differences (2 directions, 2 colours, planes, cells).
    """

    def __init__(self, method: SplitBregman, images: Tensor, kept: Tensor, *, record: bool) -> None:
        self.method, self.channels, self.record = method, images.shape[1], record
        self.board = board = Checkerboard(*images.shape[2:])
        self.inside = board.inside(images)
        mask = kept.flatten(0, 1)
        self.scale, self.share = (board.split(part) for part in method.weights(mask, _neighbours(images)))
        self.iterations = torch.zeros(len(images), dtype=torch.long, device=images.device)
        self.history: list[tuple[Tensor, Tensor]] = []  # by iteration: the images that went on, and their t
        self.result = torch.empty_like(images)
        self._iterate(board.split(torch.where(mask, images.flatten(0, 1), 0)))

    def _iterate(self, start: Tensor) -> None:
        method, rows = self.method, torch.arange(len(self.result), device=start.device)
        u, scale, data = Field(self.board, start), self.scale, self.share * start
        constant, before, b = data.clone(), start.clone(), torch.stack([start, start]).zero_()
        right, below = Field(self.board, start), Field(self.board, start)
        for iteration in range(1, method.max_iterations + 1):
            _sweep(u, scale, constant, method.sweeps)
            last = iteration == method.max_iterations
            on = [not last and change > method.tolerance for change in self._changes(before.sub_(u.values))]
            if not all(on):
                done, going = (
                    torch.tensor([image for image, goes in enumerate(on) if goes == which], device=rows.device)
                    for which in (False, True)
                )
                self._finish(rows[done], self._of(done, u.values), iteration)
                if not any(on):
                    break
                rows, scale, data, b = rows[going], *(self._of(going, part) for part in (scale, data, b))
                u = Field(self.board, self._of(going, u.values))
                constant, before = torch.empty_like(data), torch.empty_like(data)
                right, below = Field(self.board, data), Field(self.board, data)
            before.copy_(u.values)
            t = _differences(u, self.inside, out=(right.values, below.values))
            for values, multiplier in zip(t, b, strict=True):
                values.add_(multiplier)
            if self.record:
                self.history.append((rows, torch.stack(list(t))))
            _multiplier(t, method, out=b)
            for values, multiplier in zip(t, b, strict=True):
                values.sub_(multiplier, alpha=2)  # d - b = t - 2 b
            _divergence(right, below, out=constant).mul_(scale).add_(data)

    def _finish(self, rows: Tensor, values: Tensor, iteration: int) -> None:
        self.iterations[rows] = iteration
        self.result[rows] = self._images(values)

    def _images(self, values: Tensor) -> Tensor:
        planes = self.board.join(values)
        return planes.reshape(-1, self.channels, *planes.shape[1:])

    def _of(self, images: Tensor, part: Tensor) -> Tensor:
        """Of a tensor of all planes, those of some images, by their indices."""
        planes = images[:, None] * self.channels + torch.arange(self.channels, device=images.device)
        return part.index_select(-2, planes.flatten())

    def _changes(self, difference: Tensor) -> list[float]:
        """The root mean square of every image's difference, which is lost."""
        squares = difference.square_()
        sums = _sum_rows((squares[0] + squares[1]).view(-1, self.channels * self.board.cells))
        pixels = self.channels * self.board.height * self.board.width
        return [math.sqrt(total / pixels) for total in sums.tolist()]

    def pullback(self, v: Tensor) -> Tensor:
        """J^T v, (B, C, H, W)."""
        product = torch.empty_like(v)
        for count in sorted(set(self.iterations.tolist())):
            images = (self.iterations == count).nonzero()[:, 0]
            steps = [self._of(torch.searchsorted(rows, images), t) for rows, t in self.history[: count - 1]]
            product[images] = self._adjoint(v[images], images, steps)
        return product

    def _adjoint(self, v: Tensor, images: Tensor, steps: list[Tensor]) -> Tensor:
        """J^T v of images that took `len(steps) + 1` iterations: everything of `_iterate` backwards."""
        scale, share = self._of(images, self.scale), self._of(images, self.share)
        u = Field(self.board, self.board.split(v.flatten(0, 1)))
        constant = _sweep_adjoint(u, scale, self.method.sweeps)
        data, b = constant, torch.zeros(())
        for t in reversed(steps):
            g = torch.stack([torch.empty_like(scale), torch.empty_like(scale)])
            _differences(Field(self.board, constant * scale), self.inside, out=g)
            b = g + _multiplier_adjoint(t, self.method, b - 2 * g)
            right, below = (Field(self.board, values) for values in b * self.inside)
            u.values.add_(_divergence(right, below, out=torch.empty_like(scale)))
            constant = _sweep_adjoint(u, scale, self.method.sweeps)
            data = data + constant
        return self._images(share * data + u.values * (share > 0))  # u starts at f where it is kept


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


def _differences(u: Field, inside: Tensor, out: Pair) -> Pair:
    """Du: to the pixel on the right and to the one below, zero where there is none."""
    for direction, edge, values in zip((RIGHT, BELOW), inside, out, strict=True):
        u.differences(direction, out=values).mul_(edge)
    return out


def _divergence(right: Field, below: Field, out: Tensor) -> Tensor:
    """D' of differences that are zero across the border."""
    for colour, values in enumerate(right.differences(LEFT, out=out)):
        values.add_(below.neighbours[colour][ABOVE]).sub_(below.values[colour])
    return out


def _multiplier(t: Pair, method: SplitBregman, out: Tensor) -> None:
    """The next b = t - d, for the d that is best for t."""
    slope = _length(t).mul_(method.lmbda).add_(1) if method.isotropic else None
    for values, multiplier in zip(t, out, strict=True):
        if slope is None:
            torch.clamp(values, -1 / method.lmbda, 1 / method.lmbda, out=multiplier)
        else:
            torch.div(values, slope, out=multiplier)


def _multiplier_adjoint(t: Tensor, method: SplitBregman, v: Tensor) -> Tensor:
    """The gradient in t from that in b."""
    if not method.isotropic:
        return torch.where(t.abs() < 1 / method.lmbda, v, 0)
    length = _length(t)
    slope = length * method.lmbda + 1
    radial = torch.where(length > 0, (t * v).sum(0) * method.lmbda / (length * slope.square()), 0)
    return v / slope - t * radial


def _length(t: Pair) -> Tensor:
    """By way of float64: torch's own root of a float32 is not always the nearest one."""
    return t[0].square().add_(t[1].square()).double().sqrt_().to(t[0].dtype)


def _neighbours(images: Tensor) -> Tensor:
    """(1, H, W): how many neighbours every pixel has."""
    count = images.new_zeros(1, *images.shape[2:])
    for axis, extent in ((1, images.shape[2]), (2, images.shape[3])):
        count.narrow(axis, 1, extent - 1).add_(1)
        count.narrow(axis, 0, extent - 1).add_(1)
    return count


def _sum_rows(values: Tensor) -> Tensor:
    """(B, n) -> (B,), in an order that n alone decides; torch's own depends on the batch and the threads."""
    while (n := values.shape[1]) > 1:
        half = n // 2
        sums = values[:, :half] + values[:, half : 2 * half]
        sums[:, : n % 2] += values[:, 2 * half :]
        values = sums
    return values[:, 0]

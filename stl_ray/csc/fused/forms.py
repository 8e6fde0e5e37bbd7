"""The two forms of one ADMM iteration on a GPU; the iteration itself, and its letters, are those of `admm`.

A unit is one pass over the K float32 maps of an image, 256 H W bytes for K = 64: 12.8 MB at 224 pixels, 3 us of an
H200's 4.3 TB/s. An eager iteration of `admm` takes about 21 units. Times below are rooflines, none was measured.

Pointwise, about 15 units: the transforms stay, and all that is pointwise in the K maps (clip, residual, norms, update,
v) is one kernel that reads p and D^T w and writes p and v.

Spatial, 3 units and no spectrum of a filter: D^T w is a C -> K correlation as a matrix product (2 K C S^2 = 25 kflop a
pixel, 2 us at 224 pixels and 600 Tflop/s), whose epilogue updates p (2 units), takes the norms, and writes y as the
operand of the other product (half a unit). D v = 2 D y - D p, where D p is carried along in image space, so that only
y is read once more, K -> C: S products with y shifted along its rows (half a unit of memory, S times that out of the
caches: 1 KB a pixel, 4 to 5 us). What is left is images: the C S rows of the filters to be added up, written and read
in float32 (0.75), and the transforms of C channels with what is between them (about 0.75).

Carrying D p is free and helps: at the fixed point rho w = s - D y whatever the precision of the correlation, so that
rounded operands perturb the optimality condition and not the residual. Operands are float16, not bfloat16, at the same
rate: for images in [0, 1] the range suffices, and 10 bits of mantissa leave the median number of iterations of both
tiers as it is. With bfloat16, in an emulation on 10 natural images of 64 pixels, the residual stalls above the
reference tier's tolerance and the default tier takes a tenth more iterations. p itself in float16 (2 units) costs
nothing at the default tier there and a twentieth more iterations at the reference tier.

Not done: p = D^T omega + eta, omega the average of w and eta that of y, needs no p, but eta is nonzero wherever y ever
was: a K map to be read and written like p, for one more correlation, unless it is kept sparse. It did not stay simple.
Gathering D v directly, the halo of v of an output tile against C K S^2 taps, reads the maps S^2 times out of the caches
(28 us at 224 pixels) and pads C outputs to 16.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from stl_ray.csc.dictionary import Dictionary
from stl_ray.csc.fused import image_kernels as on_images
from stl_ray.csc.fused import map_kernels as on_maps
from stl_ray.csc.operator import ConvolutionOperator, operator_of
from stl_ray.csc.prox import clip, soft_threshold


class Problem(NamedTuple):
    """The CBPDN problem of the images of one tile.

    Attributes:
        s: (B, C, H, W) float32.
        dictionary: the filters.
        lmbda: the l1 weight.
        rho: the penalty.
    """

    s: Tensor
    dictionary: Dictionary
    lmbda: float
    rho: float

    @property
    def threshold(self) -> float:
        """The soft threshold, lambda / rho."""
        return self.lmbda / self.rho


class Form:
    """The ADMM state p of every image of a tile, and its iteration.

    Steps read and write two buffers in turn. An image is stopped after an even number of steps; the state that was
    judged last stays in the second buffer.

    Args:
        problem: the tile.
        p: (B, K, H, W) to start at, or zero.
    """

    _states: tuple[Tensor, Tensor]

    def __init__(self, problem: Problem, p: Tensor | None) -> None:
        self._problem = problem
        self._steps = 0

    def step(self, relaxations: Tensor) -> Tensor:
        """Move p by `relaxations` (B,) times the primal residual; the norms that `map_kernels.update` returns."""
        before, after = self._states if self._steps % 2 == 0 else self._states[::-1]
        self._steps += 1
        return self._advance(before, after, relaxations)

    def _advance(self, before: Tensor, after: Tensor, relaxations: Tensor) -> Tensor:
        raise NotImplementedError

    def maps(self, stopped: Tensor) -> tuple[Tensor, Tensor]:
        """Codes y (B, K, H, W) and D y (B, C, H, W); the images in `stopped` (B,) as they were when stopped."""
        current = self._states[self._steps % 2]
        p = torch.where(stopped.view(-1, *[1] * (current.dim() - 1)), self._states[1], current)
        return self._returned(soft_threshold(p.float(), self._problem.threshold))

    def _returned(self, y: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class Pointwise(Form):
    """FFTs for D and its adjoint, one kernel for everything else in the maps; float32 throughout."""

    def __init__(self, problem: Problem, p: Tensor | None) -> None:
        super().__init__(problem, p)
        s, dictionary = problem.s, problem.dictionary
        self._operator = operator_of(dictionary, s.shape[-2], s.shape[-1], s.dtype, s.device)
        if p is None:
            p = s.new_zeros((s.shape[0], len(dictionary.filters), *s.shape[2:]))
        self._states = (p, torch.empty_like(p))
        self._v = p - 2 * clip(p, problem.threshold)
        self._sf = self._operator.transform(s)

    def _advance(self, before: Tensor, after: Tensor, relaxations: Tensor) -> Tensor:
        operator = self._operator
        wf = operator.solve(self._problem.rho, self._sf - operator.synthesize(operator.transform(self._v)))
        # Kernels take memory as it lies, and no transform promises that it is contiguous.
        self._v = operator.inverse_transform(operator.correlate(wf)).contiguous()
        return on_maps.update(before, self._v, after, relaxations, self._problem.threshold)

    def _returned(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return y, self._operator.forward(y)


class Spatial(Form):
    """Matrix products for D and its adjoint; FFTs of C channels only, for the solve."""

    operands = torch.float16
    """Type of the operands of the two products, which are summed in float32."""

    state = torch.float32
    """Type that p is stored in."""

    def __init__(self, problem: Problem, p: Tensor | None) -> None:
        super().__init__(problem, p)
        s, dictionary = problem.s, problem.dictionary
        self._plan = _plan(dictionary, s.shape[-2], s.shape[-1], problem.rho, s.device, self.operands)
        images, channels, height, width = s.shape
        state = s.new_zeros((images, height * width, self._plan.taps.shape[1]), dtype=self.state)
        if p is not None:
            state[..., : p.shape[1]] = p.flatten(2).transpose(1, 2)
        self._states = (state, torch.zeros_like(state))
        self._y = soft_threshold(state, problem.threshold).to(self.operands)
        self._rows = s.new_zeros((images, dictionary.side * channels, height * width))
        self._tracked = torch.zeros_like(s) if p is None else self._synthesize(state.float())
        self._w, self._rhs = torch.zeros_like(s), torch.zeros_like(s)

    def _advance(self, before: Tensor, after: Tensor, relaxations: Tensor) -> Tensor:
        problem, plan = self._problem, self._plan
        s, side = problem.s, problem.dictionary.side
        on_maps.synthesize_rows(self._y, plan.columns, s.shape[1], s.shape[3], self._rows, relaxations)
        on_images.collect(self._rows, s, self._w, self._tracked, self._rhs, relaxations, problem.rho)
        wf = on_images.solve_frequencies(torch.fft.rfft2(self._rhs), plan.inverse, relaxations)
        self._w = torch.fft.irfft2(wf, s=s.shape[2:]).contiguous()
        return on_maps.correlate_and_update(
            self._w, plan.taps, side, before, after, self._y, relaxations, problem.threshold
        )

    def _returned(self, y: Tensor) -> tuple[Tensor, Tensor]:
        images, _, height, width = self._problem.s.shape
        count = len(self._problem.dictionary.filters)
        return y[..., :count].transpose(1, 2).reshape(images, count, height, width), self._synthesize(y)

    def _synthesize(self, y: Tensor) -> Tensor:
        """D of maps (B, H W, K') to float32 precision: three products of tf32 parts for one."""
        s, columns = self._problem.s, self._plan.exact_columns
        images, channels, height, width = s.shape
        ones = s.new_ones(images)
        on_maps.synthesize_rows(y, columns, channels, width, self._rows, ones, precision="tf32x3")
        rows = self._rows.view(images, -1, channels, height, width)
        total = rows[:, 0].clone()
        for a in range(1, rows.shape[1]):
            total += rows[:, a].roll(a, dims=2)
        return total


class SpatialHalf(Spatial):
    """`Spatial` with p in float16: 2 units."""

    state = torch.float16


class _Plan(NamedTuple):
    """Operands of the spatial form for one dictionary, size and penalty: 2 MB at 224 pixels.

    Attributes:
        taps: right operand of the correlation.
        columns: right operand of the synthesis.
        exact_columns: the same in float32.
        inverse: (C, C, H, W//2+1), (rho I + D D^H)^{-1}.
    """

    taps: Tensor
    columns: Tensor
    exact_columns: Tensor
    inverse: Tensor


@lru_cache(maxsize=64)
def _plan(
    dictionary: Dictionary, height: int, width: int, rho: float, device: torch.device, operands: torch.dtype
) -> _Plan:
    filters = dictionary.filters.detach().to(device)
    # The spectra of the filters are needed for this alone, so they are not kept.
    eye = torch.eye(filters.shape[1], dtype=torch.complex64, device=device)[:, :, None, None]
    inverse = ConvolutionOperator(filters, height, width).solve(rho, eye).transpose(0, 1).contiguous()
    exact_columns = on_maps.by_columns(filters, torch.float32)
    return _Plan(on_maps.by_taps(filters, operands), exact_columns.to(operands), exact_columns, inverse)


FORMS: dict[str, type[Form]] = {"pointwise": Pointwise, "spatial": Spatial, "spatial-half": SpatialHalf}
"""The forms by name."""

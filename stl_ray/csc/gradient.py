"""The exact vector-Jacobian product of the projection T.

Where the support of the codes does not change (almost everywhere), D z moves as P s, with P the orthogonal projector
onto the span of the active atoms; z need not be unique for that. With s = x - L x, L the low band,

    J^T v = P v + L^T (v - P v).

P v comes from least squares on the active atoms by conjugate gradients (CGLS, Bjorck 1996, section 7.4), which keeps
the residual v - P v. A step costs two passes over the active atoms (S x S x C pixels each) and none over K maps.
"""

import torch
from torch import Tensor

from stl_ray.csc import active_set, native
from stl_ray.csc.bands import low_band_adjoint
from stl_ray.csc.dictionary import Dictionary
from stl_ray.csc.tiles import tile_size


@torch.no_grad()
def projection_vjp(
    cotangent: Tensor, support: Tensor, dictionary: Dictionary, steps: int = 30, tolerance: float = 0.0
) -> tuple[Tensor, Tensor]:
    """J^T v of T at a solve with that support, dictionary held fixed.

    Args:
        cotangent: v, (B, C, H, W) float32 or float64.
        support: (4, n) int64, as `Codes.support`.
        dictionary: the filters of that solve.
        steps: conjugate gradient steps at most.
        tolerance: relative residual at which an image stops.

    Returns:
        J^T v, (B, C, H, W), and the relative residual reached ||A^T (v - P v)|| / ||A^T v||, A the active atoms, (B,).
    """
    in_core = cotangent.dtype == torch.float32 and cotangent.device.type == "cpu" and native.available()
    # The native core runs the same iteration, several times as fast.
    function = active_set.off_the_span if in_core else _off_the_span
    orthogonal, residual = function(cotangent, support, dictionary, steps, tolerance)
    return cotangent - orthogonal + low_band_adjoint(orthogonal), residual


def _off_the_span(
    v: Tensor, support: Tensor, dictionary: Dictionary, steps: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    """The part v - P v of v, (B, C, H, W), that is orthogonal to the active atoms, and the relative residual, (B,)."""
    size = tile_size(v.shape[-2], v.shape[-1], v.device)
    starts = torch.arange(0, len(v) + size, size, device=v.device)
    bounds = torch.searchsorted(support[0].contiguous(), starts).tolist()
    pieces = []
    for tile, part in enumerate(torch.split(v, size)):
        atoms = _ActiveAtoms(support[:, bounds[tile] : bounds[tile + 1]], tile * size, dictionary, part)
        pieces.append(_cgls(part, atoms, steps, tolerance))
    orthogonal, residual = zip(*pieces, strict=True)
    return torch.cat(orthogonal), torch.cat(residual)


class _ActiveAtoms:
    """The n active atoms of a tile of images as the matrix A: coefficients (n,) -> images (b, C, H, W).

    Args:
        support: (4, n), of the tile's images.
        offset: index of the tile's first image.
        dictionary: the filters.
        images: (b, C, H, W), for their shape, type and device.
    """

    def __init__(self, support: Tensor, offset: int, dictionary: Dictionary, images: Tensor) -> None:
        self.shape = images.shape
        _, channels, height, width = images.shape
        image, filters, row, column = support
        self.image = image - offset
        self.values = dictionary.filters.to(images)[filters].flatten(1)
        inside = torch.arange(dictionary.side, device=images.device)
        plane = self.image[:, None] * channels + torch.arange(channels, device=images.device)
        rows, columns = (row[:, None] + inside) % height, (column[:, None] + inside) % width
        pixels = (plane[:, :, None, None] * height + rows[:, None, :, None]) * width + columns[:, None, None, :]
        self.pixels = pixels.flatten()

    def forward(self, coefficients: Tensor) -> Tensor:
        """A z."""
        weighted = (coefficients[:, None] * self.values).flatten()
        return coefficients.new_zeros(self.shape.numel()).scatter_add_(0, self.pixels, weighted).view(self.shape)

    def adjoint(self, images: Tensor) -> Tensor:
        """A^T v."""
        return (images.flatten().index_select(0, self.pixels).view_as(self.values) * self.values).sum(1)

    def energy(self, coefficients: Tensor) -> Tensor:
        """||z||^2 of every image, (b,)."""
        return coefficients.new_zeros(self.shape[0]).scatter_add_(0, self.image, coefficients.square())


def _cgls(v: Tensor, atoms: _ActiveAtoms, steps: int, tolerance: float) -> tuple[Tensor, Tensor]:
    """The residual v - A z of a tile, (b, C, H, W), after at most `steps` steps, and the relative one, (b,)."""
    residual = v
    gradient = atoms.adjoint(residual)
    direction = gradient
    energy = start = atoms.energy(gradient)
    # Further steps would walk along combinations of atoms that cancel, where rounding is all there is.
    floor = torch.maximum(_energy(v) * torch.finfo(v.dtype).eps, start * tolerance**2)
    for _ in range(steps):
        running = energy > floor
        if not bool(running.any()):
            break
        image = atoms.forward(direction)
        step = torch.where(running, energy / _energy(image), 0)
        residual = residual - step[:, None, None, None] * image
        gradient = atoms.adjoint(residual)
        previous, energy = energy, torch.where(running, atoms.energy(gradient), energy)
        direction = gradient + torch.where(running, energy / previous, 0)[atoms.image] * direction
    return residual, (energy / start.where(start > 0, 1)).sqrt()


def _energy(images: Tensor) -> Tensor:
    # Rows first: a sum that several threads share is not taken in one order.
    return images.square().sum(3).sum((1, 2))

"""A block of images as its worker holds it, and the questions that dictionary learning asks of it.

Every method is a function of its arguments and the block alone, so that any worker that holds the block gives the same
answer, also after the death of another. The latest codes' statistics are kept, for they are asked for more than once.
Questions and answers are tensors on the CPU, wherever the images are.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from stl_ray.config.spaces import DictionaryConfig
from stl_ray.csc.bands import split_bands
from stl_ray.csc.cbpdn import check_images, solve_cbpdn
from stl_ray.csc.codes import Accuracy, Codes, Descent, Splitting
from stl_ray.csc.dictionary import Dictionary
from stl_ray.csc.learning.constraint import ConstraintSet
from stl_ray.csc.learning.statistics import CodeStatistics, l1_of
from stl_ray.csc.learning.sums import total
from stl_ray.csc.learning.update import local_filters
from stl_ray.csc.projection import PIXELS_AT_ONCE
from stl_ray.errors import TensorError
from stl_ray.seeding import seed_of

WINDOW = 64
"""Pixels; one random window of this side represents the high band of a larger image."""

CODING = Accuracy(Splitting(30, 1, 0.1, 50), Descent(0.2, 0.3, 50))
"""Accuracy of training codes: rough, from zero. Warm starts and tighter codes were slower and gave poorer filters."""


@dataclass(frozen=True)
class CodingResult:
    """Totals over a block's images of codes for given filters.

    Attributes:
        images: their number.
        objective: sum of 1/2 ||s - D z||^2 + lambda ||z||_1.
        usage: (K,), as in `CodeStatistics`.
    """

    images: int
    objective: float
    usage: Tensor


@dataclass(frozen=True)
class HoldoutScore:
    """Totals over held-out images, coded to the default accuracy.

    Attributes:
        images: their number.
        objective: sum of 1/2 ||s - D z||^2 + lambda ||z||_1.
        squared_error: sum of ||s - D z||^2.
        pixels: values that it is summed over.
        sparsity: sum over the images of the share of coefficients that are not zero.
    """

    images: int
    objective: float
    squared_error: float
    pixels: int
    sparsity: float


class Block:
    """High bands of images, grouped by size.

    Args:
        images: (C, H, W) float in [0, 1] each, H and W >= S, on the device where they are to be coded.
        ids: of the images; with the seed they decide windows and patches.
        config: S, lambda, norm and zero_mean are used.
        seed: the run seed.
        method: of the solver.

    Raises:
        TensorError: there is no image, or one is not finite or too small; it is named.
    """

    def __init__(
        self, images: Sequence[Tensor], ids: Sequence[str], config: DictionaryConfig, *, seed: int, method: str = "auto"
    ) -> None:
        self._config, self._method = config, method
        self._constraint = ConstraintSet(config.norm, config.zero_mean)
        self._seed = seed
        if not images:
            raise TensorError("a block without images", expected="at least one")
        windows = [(name, self._window(image, name)) for image, name in zip(images, ids, strict=True)]
        shapes = dict.fromkeys(window.shape for _, window in windows)
        self._ids = [[name for name, window in windows if window.shape == shape] for shape in shapes]
        self._groups = [torch.stack([window for _, window in windows if window.shape == shape]) for shape in shapes]
        self._coded: tuple[Tensor, CodingResult, CodeStatistics] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    @property
    def bytes(self) -> int:
        """Memory of the high bands and of the kept statistics."""
        statistics = () if self._coded is None else self._coded[2].tensors().values()
        return sum(tensor.nbytes for tensor in (*self._groups, *statistics))

    def patches(self, per_image: int) -> Tensor:
        """Random patches of every image that can become filters, (n, C, S, S), n at most per_image a piece."""
        side = self._config.size
        ids, windows = itertools.chain(*self._ids), itertools.chain(*self._groups)
        crops = []
        for name, window in zip(ids, windows, strict=True):
            generator = torch.Generator().manual_seed(seed_of(self._seed, name, "initial filters"))
            bounds = (window.shape[1] - side + 1, window.shape[2] - side + 1)
            corners = torch.stack([torch.randint(bound, (per_image,), generator=generator) for bound in bounds], dim=1)
            crops += [window[:, i : i + side, j : j + side] for i, j in corners.tolist()]
        patches = torch.stack(crops).cpu()
        return patches[self._constraint.textured(patches)]

    def code(self, filters: Tensor) -> CodingResult:
        """Code every image for `filters` (K, C, S, S)."""
        return self._code(filters)[1]

    def statistics(self, filters: Tensor) -> CodeStatistics:
        """Statistics of the codes for `filters`."""
        return self._code(filters)[2].to("cpu")

    def local_filters(self, filters: Tensor, start: Tensor, target: Tensor, penalty: Tensor) -> Tensor:
        """This block's filters near a target, for the codes that `filters` gave; see `update.local_filters`."""
        statistics = self._code(filters)[2]
        problem = (part.to(statistics.cross.device) for part in (start, target, penalty))
        return local_filters(statistics, *problem).cpu()

    def judge(self, filters: Tensor) -> HoldoutScore:
        """Code every image for `filters` to the default accuracy, as images that learning does not see."""
        squared_error, l1, pixels, sparsity = 0.0, 0.0, 0, 0.0
        for images, codes in self._solved(filters, "default"):
            squared_error += float(total((images - codes.synthesis).square()))
            l1 += float(l1_of(codes))
            pixels += images.numel()
            sparsity += float(total(codes.sparsity))
        return HoldoutScore(len(self), squared_error / 2 + self._config.lmbda * l1, squared_error, pixels, sparsity)

    def _code(self, filters: Tensor) -> tuple[Tensor, CodingResult, CodeStatistics]:
        if self._coded is not None and torch.equal(self._coded[0], filters):
            return self._coded
        solved = self._solved(filters, CODING)
        statistics = reduce(CodeStatistics.joined, (CodeStatistics.of(c, s, self._config.size) for s, c in solved))
        objective = len(self) * statistics.objective(filters.to(statistics.cross.device), self._config.lmbda)
        self._coded = filters, CodingResult(len(self), objective, statistics.usage.cpu()), statistics
        return self._coded

    def _solved(self, filters: Tensor, accuracy: str | Accuracy) -> Iterator[tuple[Tensor, Codes]]:
        """High bands with their codes, not all at once."""
        dictionary = Dictionary(filters, self._config.lmbda, self._config.norm)
        for group in self._groups:
            for part in torch.split(group, max(1, PIXELS_AT_ONCE // group[0, 0].numel())):
                yield part, solve_cbpdn(part, dictionary, dictionary.lmbda, method=self._method, accuracy=accuracy)

    def _window(self, image: Tensor, name: str) -> Tensor:
        """The high band of an image, or one random window of it where it is larger than WINDOW."""
        try:
            check_images(image[None], image.shape[0], self._config.size)
        except TensorError as error:
            raise TensorError(error.message, item=name, expected=error.expected, got=error.got) from error
        high = split_bands(image[None].float())[1][0]
        generator = torch.Generator().manual_seed(seed_of(self._seed, name, "window"))
        sizes = [min(side, WINDOW) for side in high.shape[1:]]
        i, j = (
            int(torch.randint(full - side + 1, (), generator=generator))
            for full, side in zip(high.shape[1:], sizes, strict=True)
        )
        # A copy, so that the rest of the image is let go.
        return high[:, i : i + sizes[0], j : j + sizes[1]].clone()

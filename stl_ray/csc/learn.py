"""Convolutional dictionary learning: sparse codes for fixed filters, then filters for fixed codes, in turn.

    minimise   sum_n 1/2 ||s_n - D z_n||^2 + lambda ||z_n||_1    over codes z and filters d in the constraint set

The set is the one that the authors' dictionaries keep: S x S support, zero mean in each channel, unit joint norm. Each
outer iteration codes a part of the images and adds it to statistics of which it fades the older part, so that
codes for poor early filters are forgotten; the whole is not convex. Sources: Sun et al. 2019, section 3.3 (the
alternation); Mairal et al. 2010 (statistics of mini-batches, with fading).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stl_ray.config.sections import DictionaryConfig
from stl_ray.csc.bands import split_bands
from stl_ray.csc.cbpdn import check_images, solve_cbpdn
from stl_ray.csc.codes import Accuracy, Descent, Splitting
from stl_ray.csc.dictionary import Dictionary
from stl_ray.csc.filters import CodeStatistics, initial_filters, update_filters
from stl_ray.errors import TensorError
from stl_ray.seeding import seed_of

WINDOW = 64
"""Pixels: a larger image is represented by one random window of this side of its high band."""

BATCHES = 4
"""Outer iterations in which every training image is coded once, unless that makes small batches."""

SMALLEST_BATCH = 50
"""Images that an outer iteration codes at least, where there are as many."""

FADING = 0.5
"""Weight of the older statistics after each outer iteration."""

CODING = Accuracy(Splitting(30, 1, 0.1, 50), Descent(0.2, 0.3, 50))
"""Of the training codes: rough, from zero. Warm starts and tighter codes were slower and led to poorer filters."""

SMALLEST_ERROR = 1e-12
"""Mean squared error below which the PSNR stays at 120 dB: about the rounding of float32."""


@dataclass(frozen=True)
class LearningStep:
    """Where learning stands after one outer iteration.

    Attributes:
        iteration: from 1.
        objective: mean over the (faded) training codes of the objective with the new filters.
        holdout_objective: mean over the holdout, coded with the new filters to the default accuracy.
        sparsity: share of the holdout's coefficients that are not zero.
        psnr: dB, of the mean squared error of the (unclipped) projection over all pixels of the holdout, of which a
            large image gives the one window that is coded; at most 120, so finite for flat images too.
        dictionary: the new filters.
    """

    iteration: int
    objective: float
    holdout_objective: float
    sparsity: float
    psnr: float
    dictionary: Dictionary


def learn_dictionary(
    images: Tensor, config: DictionaryConfig, *, seed: int, name: str, holdout: Tensor
) -> Iterator[LearningStep]:
    """Learn a dictionary, yielding after each outer iteration; the last step holds the result.

    Deterministic for one seed on one machine at one number of threads.

    Args:
        images: (N, C, H, W) in [0, 1], H and W >= S.
        config: filters, their size, lambda, outer iterations.
        seed: the run seed.
        name: of the dictionary, so that two of one run draw different initial filters.
        holdout: (n, C, h, w) in [0, 1], images that learning does not see.

    Raises:
        TensorError: images that are not finite batches, too few or too flat to fill the filters, or of so little
            contrast that lambda leaves no coefficient to learn from.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, name, "dictionary"))
    highpass, held = (_windows(batch, config.size, generator) for batch in (images, holdout))
    filters = initial_filters(highpass, config.filters, config.size, generator)
    parts = min(BATCHES, max(1, len(highpass) // SMALLEST_BATCH))
    batches = torch.randperm(len(highpass), generator=generator).chunk(parts)
    statistics = held_codes = None
    for iteration in range(1, config.iterations + 1):
        batch = highpass[batches[(iteration - 1) % len(batches)]]
        maps = solve_cbpdn(batch, Dictionary(filters, config.lmbda), config.lmbda, accuracy=CODING).maps
        latest = CodeStatistics.of(maps, batch, config.size)
        statistics = latest if statistics is None else latest.joined(statistics, FADING)
        if statistics.l1 == 0:
            raise TensorError(
                "no coefficient of the training images survives lambda",
                item=name,
                expected="images with more contrast, or a smaller lambda",
                got=f"lambda {config.lmbda:g} for {len(batch)} images",
            )
        filters = update_filters(filters, statistics)
        dictionary = Dictionary(filters, config.lmbda)
        held_codes = solve_cbpdn(held, dictionary, config.lmbda, start=held_codes)
        error = float((held - held_codes.synthesis).square().mean())
        l1 = float(held_codes.coefficients.abs().sum())
        yield LearningStep(
            iteration=iteration,
            objective=statistics.objective(filters, config.lmbda),
            holdout_objective=error * held[0].numel() / 2 + config.lmbda * l1 / len(held),
            sparsity=float(held_codes.sparsity.mean()),
            psnr=-10 * math.log10(max(error, SMALLEST_ERROR)),
            dictionary=dictionary,
        )


def _windows(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """The high band of every image, or one random window of it where it is larger than WINDOW."""
    check_images(images, images.shape[1] if images.dim() == 4 else 3, side)
    height, width = images.shape[-2:]
    high = split_bands(images)[1]
    rows, columns = min(height, WINDOW), min(width, WINDOW)
    corners = torch.stack(
        [torch.randint(side + 1, (len(images),), generator=generator) for side in (height - rows, width - columns)], 1
    ).tolist()
    return torch.stack([h[:, i : i + rows, j : j + columns] for h, (i, j) in zip(high, corners, strict=True)])

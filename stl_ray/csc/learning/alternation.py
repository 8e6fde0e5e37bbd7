"""Convolutional dictionary learning: sparse codes for fixed filters, then filters for fixed codes, in turn.

    minimise   sum_n 1/2 ||s_n - D z_n||^2 + lambda ||z_n||_1    over codes z and filters d in the constraint set

The problem is not convex: the result depends on the first filters, random patches of the images. Images are coded not
for the last filters but for filters a step ahead, by the direction of the last update, which reaches the same objective
in less than half of the iterations. Sources: Sun et al. 2019, section 3.3 (the alternation); Nesterov 1983 (the step
ahead, for convex functions).
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from stl_ray.config.spaces import DictionaryConfig
from stl_ray.csc.dictionary import Dictionary
from stl_ray.csc.learning.block import Block, HoldoutScore
from stl_ray.csc.learning.block_pool import BlockPool, LocalBlockPool
from stl_ray.csc.learning.consensus import consensus_update
from stl_ray.csc.learning.constraint import ConstraintSet
from stl_ray.csc.learning.online import online_update
from stl_ray.errors import TensorError
from stl_ray.seeding import seed_of

MOMENTUM = 0.8
"""Share of the last update by which filters are carried ahead before images are coded for them."""

PATIENCE = 5
"""Iterations over which the holdout's objective must fall by `tolerance`."""

CANDIDATES = 20
"""Patches looked at for each initial filter."""

SMALLEST_ERROR = 1e-12
"""Mean squared error below which the PSNR stays at 120 dB: about the rounding of float32."""


@dataclass(frozen=True)
class LearningStep:
    """Figures, filters and state of learning after one outer iteration.

    Attributes:
        iteration: from 1.
        objective: mean over the training images that were coded, for the filters that they were coded for.
        holdout_objective: mean over the holdout, coded with the new filters to the default accuracy.
        sparsity: share of the holdout's coefficients that are not zero.
        psnr: dB, of the mean squared error of the (unclipped) projection over all pixels of the holdout (of a large
            image, those of the window that is coded); at most 120, so finite for flat images too.
        converged: whether the stopping rule ended learning here: see `DictionaryConfig.tolerance`.
        dictionary: the new filters.
    """

    iteration: int
    objective: float
    holdout_objective: float
    sparsity: float
    psnr: float
    converged: bool
    dictionary: Dictionary = field(repr=False)
    _state: dict[str, Tensor] = field(repr=False)

    def row(self) -> dict[str, int | float | bool]:
        """The figures by name, JSON-able."""
        return {name: value for name, value in vars(self).items() if name not in ("dictionary", "_state")}

    def state(self) -> dict[str, Tensor]:
        """Tensors by name: the `state` from which `learn` goes on as if it had not stopped."""
        return self._state


def learn_dictionary(
    images: Tensor,
    config: DictionaryConfig,
    *,
    seed: int,
    name: str,
    holdout: Tensor,
    ids: Sequence[str] | None = None,
    holdout_ids: Sequence[str] | None = None,
    method: str = "auto",
) -> Iterator[LearningStep]:
    """Learn a dictionary in this process, yielding after each outer iteration; the last step holds the result.

    Deterministic for one seed on one machine; with `active_set` on any number of threads.

    Args:
        images: (N, C, H, W) in [0, 1], H and W >= S.
        config: how to learn; `images` and `holdout` are not used, for all are taken.
        seed: the run seed.
        name: of the dictionary, so that two of one run draw different initial filters.
        holdout: (n, C, h, w) in [0, 1], images that learning does not see.
        ids: of the images, which decide windows and initial patches; by default their numbers.
        holdout_ids: likewise.
        method: of the solver.

    Raises:
        TensorError: an image that is not finite or too small, which is named; images that are too few or too flat to
            fill the filters, or of so little contrast that lambda leaves no coefficient to learn from.
    """
    image_ids = [str(number) for number in range(len(images))] if ids is None else ids
    held_ids = [f"holdout {number}" for number in range(len(holdout))] if holdout_ids is None else holdout_ids
    learned, held = (
        _blocks(f"{name}, {what}", batch, batch_ids, config, seed=seed, method=method)
        for what, batch, batch_ids in (("images", images, image_ids), ("holdout", holdout, held_ids))
    )
    return learn(LocalBlockPool(learned, held), config, seed=seed, name=name)


def _blocks(
    what: str, images: Tensor, ids: Sequence[str], config: DictionaryConfig, *, seed: int, method: str
) -> list[Block]:
    if images.dim() != 4 or len(images) == 0:
        raise TensorError("images of another shape", item=what, expected="(N >= 1, C, H, W)", got=tuple(images.shape))
    if len(ids) != len(images):
        raise TensorError("not one id for every image", item=what, expected=len(images), got=len(ids))
    return [
        Block([images[i] for i in part], [ids[i] for i in part], config, seed=seed, method=method)
        for part in partition(len(images), config.block)
    ]


def partition(count: int, block: int) -> list[range]:
    """`count` images in the fewest blocks of at most `block`, as equal as they go."""
    blocks = -(-count // block)
    bounds = [number * count // blocks for number in range(blocks + 1)]
    return [range(start, end) for start, end in itertools.pairwise(bounds)]


def learn(
    pool: BlockPool,
    config: DictionaryConfig,
    *,
    seed: int,
    name: str,
    curve: Sequence[Mapping[str, float]] = (),
    state: Mapping[str, Tensor] | None = None,
) -> Iterator[LearningStep]:
    """Learn from the blocks of a pool; arguments and errors as for `learn_dictionary`.

    Args:
        pool: holds the blocks.
        config: how to learn.
        seed: the run seed.
        name: of the dictionary.
        curve: the rows of the iterations done before; nothing is yielded where these are all.
        state: `LearningStep.state` of the last of them.
    """
    try:
        yield from _learn(pool, config, seed, name, curve, state)
    except TensorError as error:
        if error.item is not None:
            raise
        raise TensorError(error.message, item=name, expected=error.expected, got=error.got) from error


def _learn(
    pool: BlockPool,
    config: DictionaryConfig,
    seed: int,
    name: str,
    curve: Sequence[Mapping[str, float]],
    state: Mapping[str, Tensor] | None,
) -> Iterator[LearningStep]:
    constraint = ConstraintSet(config.norm, config.zero_mean)
    if state is None:
        filters = previous = _initial_filters(pool, config, constraint, seed_of(seed, name, "initial filters"))
        memory: dict[str, Tensor] = {}
    else:
        filters, previous = state["filters"], state["previous"]
        memory = {key.removeprefix("memory."): t for key, t in state.items() if key.startswith("memory.")}
    falling = [row["holdout_objective"] for row in curve]
    if curve and curve[-1]["converged"]:
        return
    for iteration in range(len(curve), config.iterations):
        ahead = constraint.project(filters + MOMENTUM * (filters - previous))
        previous = filters
        if config.method == "consensus":
            filters, objective, memory = consensus_update(pool, ahead, constraint, memory)
        else:
            filters, objective, memory = online_update(
                pool, ahead, constraint, memory, iteration=iteration, lmbda=config.lmbda
            )
        judged = _total(pool.judge(filters))
        error = judged.squared_error / judged.pixels
        falling.append(judged.objective / judged.images)
        converged = len(falling) > PATIENCE and falling[-1] > (1 - config.tolerance) * falling[-1 - PATIENCE]
        yield LearningStep(
            iteration=iteration + 1,
            objective=objective,
            holdout_objective=falling[-1],
            sparsity=judged.sparsity / judged.images,
            psnr=-10 * math.log10(max(error, SMALLEST_ERROR)),
            converged=converged,
            dictionary=Dictionary(filters, config.lmbda, config.norm),
            _state={"filters": filters, "previous": previous, **{f"memory.{key}": t for key, t in memory.items()}},
        )
        if converged:
            return


def _initial_filters(pool: BlockPool, config: DictionaryConfig, constraint: ConstraintSet, seed: int) -> Tensor:
    """K random patches: of the first blocks where the images are many, else of all, whatever their partition."""
    wanted = CANDIDATES * config.filters
    per_image = -(-wanted // sum(pool.sizes))
    enough = next((n for n, seen in enumerate(itertools.accumulate(pool.sizes), 1) if seen >= wanted), len(pool.sizes))
    patches = torch.cat(pool.patches(per_image, range(enough)))
    # Each once, and in an order that no order of the images decides.
    different = torch.from_numpy(np.unique(patches.flatten(1).numpy(), axis=0))
    if len(different) < config.filters:
        raise TensorError(
            "the images are too few or too flat to learn so many filters from",
            expected=f"at least {config.filters} different textured patches of {config.size} x {config.size}",
            got=len(different),
        )
    drawn = torch.randperm(len(different), generator=torch.Generator().manual_seed(seed))[: config.filters]
    return constraint.project(different[drawn].view(-1, *patches.shape[1:]))


def _total(scores: Sequence[HoldoutScore]) -> HoldoutScore:
    first, *others = scores
    for other in others:
        first = replace(first, **{key: value + getattr(other, key) for key, value in asdict(first).items()})
    return first

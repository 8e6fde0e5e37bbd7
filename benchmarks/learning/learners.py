"""Who learns a dictionary: SPORCO's two learners and the package's two methods. All in the same constraint set.

A learner is begun and then steps from dictionary to dictionary; nothing is computed between two steps.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import sporco.fft
import torch
from numpy.typing import NDArray
from sporco.dictlrn import cbpdndl, onlinecdl
from sporco.signal import tikhonov_filter
from torch import Tensor

from benchmarks.common.images import LMBDA
from stl_ray.config.spaces import DictionaryConfig
from stl_ray.csc import Dictionary, learn_dictionary

PEER_ITERATIONS = 200
"""MaxMainIter of SPORCO's example for colour images, which the authors' dictionaries look like the outcome of."""

PEER_PASSES = 2
"""Times that SPORCO's online learner sees every image."""

METHODS: tuple[Literal["consensus"], Literal["online"]] = ("consensus", "online")

FILTERS, SIDE = 64, 8

FLAT = 1e-3
"""Standard deviation of the pixels of a patch below which it tells a filter nothing."""

_SEED = 0


@dataclass(frozen=True)
class Learner:
    """A method with its images.

    Attributes:
        name: as tables show it.
        peer: whether it is SPORCO.
        begin: start anew; yields the dictionary after each iteration, and whether the method has converged with it.
    """

    name: str
    peer: bool
    begin: Callable[[], Iterator[tuple[Dictionary, bool]]]


def learners(images: Tensor, holdout: Tensor, block: int, patches: bool) -> list[Learner]:
    """SPORCO's, then ours.

    Args:
        images: (N, 3, H, W) in [0, 1], to learn from.
        holdout: (n, 3, H, W), further images, by which our methods see that they have converged.
        block: images of a block of ours.
        patches: SPORCO's consensus learner once more, from patches of the images, with which ours begin.
    """
    begun = Learner("SPORCO, consensus from patches", True, lambda: _peer_consensus(images, _random_patches(images)))
    return [
        Learner("SPORCO, consensus", True, lambda: _peer_consensus(images, _random_filters())),
        *([begun] if patches else []),
        Learner("SPORCO, online", True, lambda: _peer_online(images)),
        *(ours(images, holdout, configuration(method, images, holdout, block)) for method in METHODS),
    ]


def ours(images: Tensor, holdout: Tensor, config: DictionaryConfig) -> Learner:
    """One of the package's methods, with all that `learn_dictionary` does."""

    def begin() -> Iterator[tuple[Dictionary, bool]]:
        for step in learn_dictionary(images, config, seed=_SEED, name="universal", holdout=holdout):
            yield step.dictionary, step.converged

    return Learner(f"ours, {config.method}", False, begin)


def configuration(
    method: Literal["consensus", "online"], images: Tensor, holdout: Tensor, block: int
) -> DictionaryConfig:
    """The package's defaults for these images, in the reference's sizes."""
    return DictionaryConfig(
        method=method,
        filters=FILTERS,
        size=SIDE,
        lmbda=LMBDA,
        images=len(images),
        holdout=len(holdout),
        block=block,
    )


def _peer_consensus(images: Tensor, filters: NDArray[np.float32]) -> Iterator[tuple[Dictionary, bool]]:
    """Batch learning as in SPORCO's example: consensus ADMM for the filters, one ADMM iteration for each in turn."""
    settings = {
        "MaxMainIter": 1,  # of each call: calls go on where the last one ended
        "CBPDN": {"rho": 50.0 * LMBDA + 0.5},
        "CCMOD": {"rho": 1.0, "ZeroMean": True},
    }
    options = cbpdndl.ConvBPDNDictLearn.Options(settings, dmethod="cns")
    learner = cbpdndl.ConvBPDNDictLearn(filters, _peer_highpass(images), LMBDA, options, dmethod="cns")
    for _ in range(PEER_ITERATIONS):
        yield _imported(learner.solve()), False


def _peer_online(images: Tensor) -> Iterator[tuple[Dictionary, bool]]:
    """Stochastic gradient descent, one image at a time, with the class' defaults."""
    options = onlinecdl.OnlineConvBPDNDictLearn.Options({"ZeroMean": True, "DataType": np.float32})
    learner = onlinecdl.OnlineConvBPDNDictLearn(_random_filters(), LMBDA, options)
    highpass, generator = _peer_highpass(images), np.random.default_rng(_SEED)
    for _ in range(PEER_PASSES):
        for index in generator.permutation(len(images)):
            yield _imported(learner.solve(highpass[..., [index]])), False


def _peer_highpass(images: Tensor) -> NDArray[np.float32]:
    """(H, W, C, N), as SPORCO wants it."""
    sporco.fft.pyfftw_threads = 1
    high: NDArray[np.float32] = tikhonov_filter(np.ascontiguousarray(images.permute(2, 3, 1, 0).numpy()), 5, 16)[1]
    return high


def _random_filters() -> NDArray[np.float32]:
    return np.random.default_rng(_SEED).standard_normal((SIDE, SIDE, 3, FILTERS)).astype(np.float32)


def _random_patches(images: Tensor) -> NDArray[np.float32]:
    """(S, S, C, K) of the high band, none of them flat."""
    highpass, generator = _peer_highpass(images), np.random.default_rng(_SEED)
    found: list[NDArray[np.float32]] = []
    while len(found) < FILTERS:
        row, column, index = (
            generator.integers(bound) for bound in (*(n - SIDE + 1 for n in highpass.shape[:2]), len(images))
        )
        patch = highpass[row : row + SIDE, column : column + SIDE, :, index]
        if patch.std() > FLAT:
            found.append(patch)
    return np.stack(found, axis=-1)


def _imported(filters: NDArray[np.float32]) -> Dictionary:
    """From SPORCO's (S, S, C, 1, K)."""
    return Dictionary(torch.from_numpy(filters.reshape(SIDE, SIDE, 3, FILTERS).transpose(3, 2, 0, 1).copy()), LMBDA)

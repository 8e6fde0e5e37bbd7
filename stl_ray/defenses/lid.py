"""LID: images are refused by the local intrinsic dimension of the classifier's activations. Source: Ma et al. 2018
(arXiv:1801.02613), section 4, algorithm 1.

The estimates at all layers (`local_intrinsic_dimension`) are the features of a logistic regression, which tells attacked
images from clean and noisy ones (`lid_calibration`). An image is refused where that is more likely than not.

In the paper the neighbours of an image are its mates in a minibatch of 100 clean ones. Here the minibatch is one of training
images, the same for all: so the score of an image is its own, and an attacker cannot choose its company. All layers count, as
in the paper, whose networks have no more than some dozens; of a large one the activations of a minibatch may not fit in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from stl_ray.defenses.activations import read_activations
from stl_ray.defenses.base import Transformation
from stl_ray.defenses.detector import Calibration, Detecting, DetectorByAutograd
from stl_ray.defenses.lid_calibration import attacked, noisy, regression
from stl_ray.defenses.local_intrinsic_dimension import local_intrinsic_dimension
from stl_ray.defenses.options import DefenseOptions
from stl_ray.defenses.undefended import Undefended
from stl_ray.errors import ArtifactError, ConfigError, TensorError, TrainingError
from stl_ray.models import Victim, predict, tile_size
from stl_ray.seeding import seed_of, seeds_of
from stl_ray.tiling import in_tiles

LARGEST = 1e3
"""Of an estimate, which is infinite where all neighbours lie equally far."""

FEWEST = 10
"""Images that the regression can be fitted to: scikit-learn cross-validates in five parts, each with both kinds."""


class LidOptions(DefenseOptions):
    """The options of lid."""

    neighbours: int = Field(20, ge=2, description="nearest neighbours of an estimate")
    minibatch: int = Field(100, ge=2, description="training images among which they are sought")

    @property
    def detects(self) -> bool:
        """See `DefenseOptions.detects`."""
        return True


@dataclass(frozen=True)
class LocalIntrinsicDimension(Detecting):
    """The image as it is; a detector by LID."""

    options: LidOptions
    name = "lid"

    @property
    def fewest(self) -> int:
        """See `Detecting.fewest`: a minibatch, and some to fit the regression to."""
        return self.options.minibatch + FEWEST

    @property
    def views(self) -> tuple[Transformation, ...]:
        """The image as it is."""
        return (Undefended(),)

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name}

    def detector_identity(self) -> dict[str, Any]:
        """See `Detecting.detector_identity`."""
        return {**self.options.model_dump(), "scikit-learn": version("scikit-learn")}

    def network(self, classifier: Victim, seeds: Sequence[int], view: int = 0) -> Victim:
        """The classifier itself; see `Defense.network`.

        Raises:
            ConfigError: it is no torch module, whose activations could be read.
        """
        _module(classifier)
        return classifier

    def calibrate(
        self, classifier: Victim, images: Tensor, labels: Tensor, ids: Sequence[str], seed: int
    ) -> Calibration:
        """See `Detecting.calibrate`: of the images that the classifier is right about, in an order that the seed gives them.

        Returns:
            `minibatch` (N, 3, H, W) uint8; `weights` (L,) and `intercept` (1,) of the log-odds of L estimates, float64.

        Raises:
            TrainingError: the images are too few.
            ConfigError: the classifier has no layers that can be read.
        """
        order = sorted(range(len(ids)), key=lambda row: seed_of(seed, ids[row], "minibatch of lid"))
        chosen, rest = order[: self.options.minibatch], order[self.options.minibatch :]
        known = self._right(classifier, images, labels, rest)
        if len(known) < FEWEST:
            expected = f"at least {self.fewest}, {FEWEST} of which the classifier is right about"
            raise TrainingError("too few training images", item=self.name, expected=expected, got=len(ids))
        minibatch = (images[chosen] * 255).round().byte()
        features = Features.of(classifier, minibatch, self.options.neighbours)
        clean = images[known]
        adversarial = attacked(classifier, clean, labels[known])
        noise = noisy(clean, adversarial, seeds_of(seed, [ids[row] for row in known], "noise of lid"))
        weights, intercept = regression(
            torch.cat([features.in_tiles(clean), features.in_tiles(noise)]), features.in_tiles(adversarial)
        )
        return {"minibatch": minibatch.cpu().numpy(), "weights": weights, "intercept": intercept}

    def detector(self, classifier: Victim, calibration: Calibration) -> "LidDetector":
        """See `Detecting.detector`.

        Raises:
            ArtifactError: the calibration is of another defense or classifier.
            ConfigError: the classifier has no layers that can be read.
        """
        wanted = {"minibatch", "weights", "intercept"}
        if calibration.keys() != wanted:
            raise ArtifactError("not a calibration of lid", expected=sorted(wanted), got=sorted(calibration))
        features = Features.of(classifier, torch.from_numpy(calibration["minibatch"]), self.options.neighbours)
        weights = torch.from_numpy(calibration["weights"])
        if len(weights) != features.layers:
            expected, got = f"{features.layers} layers", len(weights)
            raise ArtifactError("a calibration of another classifier", item=self.name, expected=expected, got=got)
        return LidDetector(features, weights.to(_device(features.network)), float(calibration["intercept"][0]))

    def _right(self, classifier: Victim, images: Tensor, labels: Tensor, rows: list[int]) -> list[int]:
        """The rows that the classifier is right about."""
        if not rows:
            return []
        found = predict(classifier, images[rows]) == labels[rows]
        return [row for row, right in zip(rows, found.tolist(), strict=True) if right]


@dataclass(frozen=True)
class Features:
    """The estimates of images at all layers of a network.

    Attributes:
        network: whose activations they are of.
        images: the minibatch, (N, 3, H, W) uint8.
        neighbours: of an estimate.
        layers: how many there are.
    """

    network: nn.Module
    images: Tensor
    neighbours: int
    layers: int

    @classmethod
    def of(cls, classifier: Victim, minibatch: Tensor, neighbours: int) -> "Features":
        """Those of a classifier, with the minibatch's images (N, 3, H, W) uint8.

        Raises:
            ConfigError: the classifier has no layers that can be read.
            StlRayError: it is in training mode.
        """
        network = _module(classifier)
        first = _on_device(minibatch[:1], network)
        classifier.logits(first)  # refuses a network in training mode, which running it would change
        layers = len(_activations(network, first))
        if not layers:
            raise ConfigError(
                "the classifier has no layers that can be read", item="lid", expected="a network that calls torch's functions",
                got="one that does not (compiled?)",
            )  # fmt: skip
        return cls(network, minibatch, neighbours, layers)

    @property
    def size(self) -> tuple[int, int]:
        """Of the minibatch's images, (H, W)."""
        return self.images.shape[-2], self.images.shape[-1]

    @cached_property
    def minibatch(self) -> tuple[Tensor, ...]:
        """Activations (N, ...) of the minibatch, layer by layer; made where images are scored, as they may be gigabytes."""
        images = _on_device(self.images, self.network)
        return in_tiles(
            lambda tile: _activations(self.network, tile), images, size=tile_size(*self.size, images.device)
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Estimates (B, L) float64 of images (B, 3, H, W), differentiable."""
        layers, estimates = iter(self.minibatch), list[Tensor]()

        def read(activations: Tensor) -> None:
            estimate = local_intrinsic_dimension(activations, next(layers), self.neighbours)
            estimates.append(estimate.clamp(max=LARGEST))

        read_activations(self.network, images, read)
        return torch.stack(estimates, dim=1)

    def in_tiles(self, images: Tensor) -> Tensor:
        """Estimates (N, L) float64 of any number of images."""
        size = tile_size(images.shape[-2], images.shape[-1], images.device)
        with torch.no_grad():
            return in_tiles(lambda tile: (self(tile),), images, size=size)[0]


@dataclass(frozen=True)
class LidDetector(DetectorByAutograd):
    """Refuses an image whose log-odds of being attacked are above 0.

    Its score is the odds up to 1, and from there grows as their logarithm does: it stays finite, and has a derivative.
    """

    features: Features
    weights: Tensor  # (L,) float64
    intercept: float

    def differentiable(self, images: Tensor, seen: Tensor) -> Tensor:
        """See `DetectorByAutograd.differentiable`; of what the classifier sees."""
        if seen.shape[-2:] != self.features.size:
            raise TensorError(
                "images of another size than the detector was calibrated on; set ingest.size", item="lid",
                expected=self.features.size, got=tuple(seen.shape[-2:]),
            )  # fmt: skip
        odds = self.features(seen) @ self.weights + self.intercept
        # Odds of 1e-20 are no 0, so that no two images are alike that were not.
        return torch.where(odds > 0, 1 + odds, odds.clamp(max=0).exp()).to(seen.dtype)


def _module(classifier: Victim) -> nn.Module:
    if not isinstance(classifier, nn.Module):
        raise ConfigError(
            "the classifier's activations cannot be read", item="lid", expected="a torch module, such as stl_ray.models.Classifier",
            got=type(classifier).__name__,
        )  # fmt: skip
    return classifier


def _activations(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    layers: list[Tensor] = []
    with torch.no_grad():
        read_activations(network, images, layers.append)
    return tuple(layers)


def _on_device(images: Tensor, network: nn.Module) -> Tensor:
    return images.to(_device(network)).float() / 255


def _device(network: nn.Module) -> torch.device:
    return next((tensor.device for tensor in chain(network.parameters(), network.buffers())), torch.device("cpu"))

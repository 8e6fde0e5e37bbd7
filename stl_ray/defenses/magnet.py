"""MagNet: an image as an autoencoder of training images reconstructs it (the reformer), and detectors that refuse images.

Source: Meng and Chen 2017, sections 4.2 and 4.3; options are those of their CIFAR-10 network and detectors (tables 4 and 5,
section 5.3). Their validation images, which the autoencoder does not learn from, are the first 5,000 of CIFAR-10.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field, Strict
from torch import Tensor

from stl_ray.csc import check_images
from stl_ray.defenses.base import deployed
from stl_ray.defenses.by_autograd import TransformationByAutograd
from stl_ray.defenses.detector import Calibration, Detecting
from stl_ray.defenses.fitted_network import NetworkOptions, held_out_count
from stl_ray.defenses.magnet_autoencoder import AutoencoderRecipe, MagnetAutoencoder
from stl_ray.defenses.magnet_detectors import MagnetDetector, statistics, thresholds
from stl_ray.errors import ArtifactError
from stl_ray.models import Victim, tile_size
from stl_ray.seeding import seed_of
from stl_ray.tiling import in_tiles

TILE = 8
"""Images that pass the network together."""


class MagnetOptions(NetworkOptions):
    """The options of magnet."""

    width: int = Field(3, ge=1, le=1024, description="channels of the autoencoder's hidden layers")
    noise: float = Field(
        0.025, ge=0, le=1, description="standard deviation of the noise that it learns to remove, of pixels in [0, 1]"
    )
    epochs: int = Field(400, ge=1, description="of its training, by Adam")
    batch_size: int = Field(256, ge=1, description="windows of a step, at most")
    refuse: bool = Field(
        True, description="whether the detectors refuse images; they are calibrated on training images, with every classifier"
    )  # fmt: skip
    p: int = Field(1, ge=1, le=2, description="power of a pixel's difference in the detector by reconstruction error")
    error_drop_rate: float = Field(
        0.005, ge=0, lt=1, description="share of the clean validation images that the detector by reconstruction error refuses"
    )  # fmt: skip
    temperatures: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Strict(False)] = Field(
        (10.0, 40.0), description="the logits are divided by, in the detectors by Jensen-Shannon divergence, one each"
    )  # fmt: skip
    jsd_drop_rate: float = Field(
        0.01, ge=0, lt=1, description="share of the clean validation images that each of these refuses"
    )  # fmt: skip
    validation: int = Field(
        5000, ge=1, description="training images that thresholds are chosen on, at most; none that an autoencoder fitted here learns from"
    )  # fmt: skip

    @property
    def detects(self) -> bool:
        """See `DefenseOptions.detects`."""
        return self.refuse

    @property
    def recipe(self) -> AutoencoderRecipe:
        """The autoencoder."""
        return AutoencoderRecipe(
            width=self.width, noise=self.noise, epochs=self.epochs, batch_size=self.batch_size,
            windows=self.windows, side=self.side,
        )  # fmt: skip


@dataclass(frozen=True)
class MagNet(TransformationByAutograd):
    """Reconstructs every image.

    Args:
        autoencoder: that does.
    """

    autoencoder: MagnetAutoencoder
    name = "magnet"

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, "autoencoder": self.autoencoder.digest}

    def transformed(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """See `TransformationByAutograd.transformed`; float64 images in float64, for finite differences.

        Raises:
            TensorError: they have another shape or type, or are not finite.
        """
        check_images(images, channels=3, side=1)
        network = self.autoencoder.like(images)
        with torch.autocast(images.device.type, enabled=False):
            return in_tiles(lambda tile: (network(tile),), images, size=TILE)[0]


@dataclass(frozen=True)
class RefusingMagNet(MagNet, Detecting):
    """Reconstructs every image, and refuses some.

    Args:
        autoencoder: that reconstructs.
        options: of the detectors.
    """

    options: MagnetOptions

    def detector_identity(self) -> dict[str, Any]:
        """See `Detecting.detector_identity`."""
        named = {"p", "error_drop_rate", "temperatures", "jsd_drop_rate", "validation"}
        return self.options.model_dump(mode="json", include=named)

    def chosen(self, ids: Sequence[str], seed: int) -> list[str]:
        """The images whose windows the autoencoder was judged by, of the smallest keys, in their order.

        An autoencoder from elsewhere may have learned from them.
        """
        recipe = self.options.recipe
        most = min(self.options.validation, held_out_count(recipe.windows_of(len(ids))))
        return sorted(ids, key=lambda name: seed_of(seed, name, f"{recipe.purpose} 0"))[:most]

    def calibrate(
        self, classifier: Victim, images: Tensor, labels: Tensor, ids: Sequence[str], seed: int
    ) -> Calibration:
        """See `Detecting.calibrate`: `thresholds`, float64, of the reconstruction error and of each temperature."""
        options = self.options

        def of_tile(tile: Tensor) -> tuple[Tensor]:
            seen = deployed(self, tile, [0] * len(tile))
            logits = classifier.logits(tile), classifier.logits(seen)
            return (statistics(tile, seen, *logits, options.p, options.temperatures),)

        (found,) = in_tiles(of_tile, images, size=tile_size(images.shape[-2], images.shape[-1], images.device))
        rates = [options.error_drop_rate, *[options.jsd_drop_rate] * len(options.temperatures)]
        return {"thresholds": thresholds(found.cpu().numpy(), rates)}

    def detector(self, classifier: Victim, calibration: Calibration) -> MagnetDetector:
        """See `Detecting.detector`."""
        options, count = self.options, 1 + len(self.options.temperatures)
        found = calibration.get("thresholds")
        if found is None or found.shape != (count,):
            raise ArtifactError("not a calibration of magnet", expected=f"{count} thresholds", got=sorted(calibration))
        return MagnetDetector(classifier, torch.tensor(found), options.p, options.temperatures)

"""Purification by diffusion: noise is added to an image, and a denoiser of training images takes it away step by step.

Source: Nie et al. 2022 (DiffPure), section 3, in the discrete form of DDPM (`diffusion_process`), which their code has too
(`runners/diffpure_guided.py`). Their figures are of the reverse SDE instead, by Euler's steps of the same length, whose
fresh noise is that of the forward step, a little more than the posterior's. What the denoiser takes for the image is not
clipped within the chain, as there; their discrete form clips it. Their gradient is that of an adjoint SDE, which is not that
of the steps that were taken; here it is, by recomputing each step from where it began with the noise that it had
(`torch.utils.checkpoint`), so that the activations of one step are held at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from stl_ray.csc import check_images
from stl_ray.defenses.by_autograd import TransformationByAutograd
from stl_ray.defenses.diffusion_denoiser import DenoiserRecipe, DiffusionDenoiser
from stl_ray.defenses.diffusion_process import LEVELS, denoised, drawn, fresh_share, noised, strided
from stl_ray.defenses.diffusion_unet import GROUPS, STRIDE
from stl_ray.defenses.fitted_network import NetworkOptions
from stl_ray.errors import ConfigError
from stl_ray.images.clipping import clipped
from stl_ray.seeding import seed_of
from stl_ray.tiling import in_tiles

TILE = 8
"""Images that pass the network together."""


class DiffusionOptions(NetworkOptions):
    """The options of diffusion."""

    start: int = Field(
        100, ge=1, le=LEVELS, description="level of noise, of 1000, that an image is given: the paper's t* in thousandths, which "
        "it has at 100 for CIFAR-10 at L_inf 8/255, 75 at L2 0.5, and 150 for ImageNet at L_inf 4/255"
    )  # fmt: skip
    steps: int | None = Field(
        None, ge=1, description="in which it is taken away, each a pass of the network, which is the whole time: about 2 ms a pass and image "
        "of 32 pixels at width 16 on one core, two to three times as much with its gradient; absent: one for each level, as in the paper"
    )  # fmt: skip
    eta: float = Field(
        1.0, ge=0, le=1, description="share of fresh noise in every step: 1 is DDPM's ancestral sampling, 0 is DDIM, whose only "
        "noise is the first"
    )  # fmt: skip
    width: int = Field(
        32, ge=GROUPS, le=1024, multiple_of=GROUPS, description="channels of the network's largest scale: 1.5 million weights at 32, "
        "with its square, far fewer than the paper's"
    )  # fmt: skip
    levels: int = Field(
        LEVELS, ge=1, le=LEVELS, description="levels of noise that the network learns, the lowest ones; a small one does better by few "
        "more than `start`"
    )  # fmt: skip
    epochs: int = Field(100, ge=1, description="of its training, by Adam")
    batch_size: int = Field(128, ge=1, description="windows of a step, at most")
    learning_rate: float = Field(2e-4, gt=0, description="of the training")
    side: int = Field(
        32, ge=8, le=512, multiple_of=STRIDE, description="side of a window in pixels; images that are smaller are set aside"
    )  # fmt: skip

    @model_validator(mode="after")
    def _levels_are_enough(self) -> "DiffusionOptions":
        if self.steps is not None and self.steps > self.start:
            raise ValueError(f"steps: {self.steps} are more than the {self.start} levels of start")
        if self.load is None and self.start > self.levels:
            raise ValueError(f"start: {self.start} is above the {self.levels} levels that the network learns")
        return self

    @property
    def recipe(self) -> DenoiserRecipe:
        """The denoiser."""
        return DenoiserRecipe(
            width=self.width, levels=self.levels, epochs=self.epochs, batch_size=self.batch_size,
            learning_rate=self.learning_rate, windows=self.windows, side=self.side,
        )  # fmt: skip


@dataclass(frozen=True)
class Diffusion(TransformationByAutograd):
    """Gives every image noise, and takes it away again.

    Args:
        denoiser: that does.
        start: level of the noise.
        steps: in which it is taken away, 1 to `start`.
        eta: share of fresh noise in every step.

    Raises:
        ConfigError: the denoiser was not trained at that level.
    """

    denoiser: DiffusionDenoiser
    start: int
    steps: int
    eta: float = 1.0
    name = "diffusion"
    randomised = True

    def __post_init__(self) -> None:
        if self.start > self.denoiser.levels:
            raise ConfigError(
                "more noise than the denoiser was trained at", item=f"{self.name}, start",
                expected=f"at most {self.denoiser.levels}", got=self.start,
            )  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {
            "defense": self.name, "denoiser": self.denoiser.digest, "start": self.start, "steps": self.steps,
            "eta": self.eta,
        }  # fmt: skip

    def transformed(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """See `TransformationByAutograd.transformed`; float64 images in float64, with the same noise, for finite differences.

        Raises:
            TensorError: they have another shape or type, are not finite, or smaller than 4 x 4.
        """
        check_images(images, channels=3, side=STRIDE)
        height, width = images.shape[-2:]
        whole = F.pad(images, (0, -width % STRIDE, 0, -height % STRIDE), mode="reflect")

        def of_tile(tile: Tensor, rows: Tensor) -> tuple[Tensor]:
            own = [seeds[row] for row in rows.tolist()]
            made = self.begun(2 * tile - 1, own)
            for level, lower in self.chain:
                # A step has no random numbers of torch's own, whose state a checkpoint would keep.
                made = checkpoint(self.step, made, own, level, lower, use_reentrant=False, preserve_rng_state=False)
            return (made,)

        (made,) = in_tiles(of_tile, whole, torch.arange(len(images)), size=TILE)
        return clipped((made[..., :height, :width] + 1) / 2)

    @property
    def chain(self) -> list[tuple[int, int]]:
        """(level, lower level) of every reverse step."""
        return strided(self.start, self.steps)

    def begun(self, clean: Tensor, seeds: Sequence[int]) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] with the noise of `start`."""
        return noised(clean, self._noise(clean, seeds, self.start), self._alpha_bar(self.start))

    def step(self, images: Tensor, seeds: Sequence[int], level: int, lower: int) -> Tensor:
        """A reverse step of images (B, 3, H, W) about [-1, 1], sides multiples of 4, from a level to a lower one."""
        network = self.denoiser.like(images)
        levels = torch.full((len(images),), level, device=images.device)
        with torch.autocast(images.device.type, enabled=False):
            noise = network(images, levels)
        before, after = self._alpha_bar(level), self._alpha_bar(lower)
        sigma = fresh_share(before, after, self.eta)
        made = denoised(images, noise, before, after, sigma)
        return made if sigma == 0 else made + sigma * self._noise(images, seeds, lower)

    def _noise(self, images: Tensor, seeds: Sequence[int], level: int) -> Tensor:
        """The noise that an image gets on its way to a level: the same whenever it is asked for."""
        return drawn(images, [seed_of(seed, f"level {level}", "diffusion") for seed in seeds])

    def _alpha_bar(self, level: int) -> float:
        return float(self.denoiser.alpha_bars[level - 1]) if level else 1.0

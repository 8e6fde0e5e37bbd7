"""What the diffusion defense is fitted with: a network that says the noise of an image, and the levels of it that it knows. No pickle."""

from collections.abc import Mapping
from typing import Self

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.defenses.diffusion_process import LEVELS
from stl_ray.defenses.diffusion_unet import GROUPS, UNet
from stl_ray.defenses.fitted_network import FittedNetwork, NetworkRecipe
from stl_ray.errors import ArtifactError

KIND, VERSION = "diffusion", 1

SCHEDULE = "alpha_bars"
"""Name of the levels among the weights."""


class DiffusionDenoiser(FittedNetwork[UNet]):
    """A trained denoiser, with the levels of noise that it was trained at."""

    kind, version, described = KIND, VERSION, "a network of this defense"
    beside = frozenset({SCHEDULE})

    def __post_init__(self) -> None:
        _check_levels(self.weights.get(SCHEDULE, torch.empty(0)))
        super().__post_init__()

    @classmethod
    def trained(cls, weights: Mapping[str, Tensor], alpha_bars: Tensor) -> Self:
        """The artifact of a `UNet`'s state and of a_1, a_2, ... of its levels, float64.

        Raises:
            ArtifactError: as `of`; or the levels are none.
        """
        return cls.of({**weights, SCHEDULE: alpha_bars})

    @staticmethod
    def shaped(weights: Mapping[str, Tensor]) -> UNet:
        """See `FittedNetwork.shaped`."""
        width = len(weights.get("first.bias", ()))
        return UNet(width if width and width % GROUPS == 0 else GROUPS)

    @property
    def alpha_bars(self) -> Tensor:
        """a_1, a_2, ... of the levels, float64 on the CPU."""
        return self.weights[SCHEDULE]

    @property
    def levels(self) -> int:
        """Levels of noise that it was trained at, the lowest ones."""
        return len(self.alpha_bars)


class DenoiserRecipe(NetworkRecipe):
    """A denoiser that was trained on windows of the training images."""

    kind = KIND
    width: int = Field(ge=1, multiple_of=GROUPS, description="channels of the largest scale")
    levels: int = Field(ge=1, le=LEVELS, description="levels of noise that it learns, the lowest ones")
    learning_rate: float = Field(gt=0, description="of Adam")

    def load(self, folder: str) -> DiffusionDenoiser:
        """See `ArtifactRecipe.load`."""
        return DiffusionDenoiser.load(folder)


def _check_levels(alpha_bars: Tensor) -> None:
    """Refuse what is no falling sequence between 1 and 0."""
    known = alpha_bars.dtype == torch.float64 and alpha_bars.dim() == 1 and len(alpha_bars) > 0
    if known and bool((torch.cat([torch.ones(1), alpha_bars, torch.zeros(1)]).diff() < 0).all()):
        return
    expected = "(levels >= 1,) torch.float64, falling between 1 and 0"
    raise ArtifactError("no levels of noise", expected=expected, got=f"{tuple(alpha_bars.shape)} {alpha_bars.dtype}")

"""A network that a defense is fitted with, trained on windows of the training images, as an artifact. No pickle."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from stl_ray.defenses.fitted import ArtifactRecipe, FittedOptions
from stl_ray.errors import ArtifactError
from stl_ray.store import load_artifact, save_artifact
from stl_ray.store.artifacts import artifact_digest

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class FittedNetwork(ABC, Generic[Network]):
    """A trained network.

    Args:
        weights: its state, float32 on the CPU, and whatever else is kept with it.
        digest: of the weights.
    """

    weights: Mapping[str, Tensor]
    digest: str
    _networks: dict[tuple[torch.device, torch.dtype], Network] = field(default_factory=dict, init=False, repr=False)

    kind: ClassVar[str]
    version: ClassVar[int]
    described: ClassVar[str]
    """What the network is, for errors."""
    beside: ClassVar[frozenset[str]] = frozenset()
    """Names of what is kept with the network and is no part of it."""

    def __post_init__(self) -> None:
        self.like(torch.empty(0))  # refuses weights of another network

    @staticmethod
    @abstractmethod
    def shaped(weights: Mapping[str, Tensor]) -> Network:
        """The network of the size that weights, of whatever network, say."""

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> Self:
        """The artifact of a network's state.

        Raises:
            ArtifactError: it is the state of another network, or not finite.
        """
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        # Of the weights alone: the record says too in which shards the images lay.
        return cls(kept, artifact_digest(cls.kind, cls.version, {name: one.numpy() for name, one in kept.items()}, {}))

    def save(self, folder: str, meta: Mapping[str, Any]) -> str:
        """Write its artifact with a record; the digest."""
        return save_artifact(
            folder, self.kind, self.version, {name: one.numpy() for name, one in self.weights.items()}, meta
        )

    @classmethod
    def load(cls, folder: str) -> Self:
        """The network in a folder.

        Raises:
            ArtifactError: it is missing, unreadable, altered, of another version, of another network, or not finite.
        """
        arrays = load_artifact(folder, cls.kind, cls.version).arrays
        try:
            # Copies, since loaded arrays may be read-only views of the file's bytes.
            return cls.of({name: torch.tensor(array) for name, array in arrays.items()})
        except ArtifactError as error:
            raise ArtifactError(error.message, item=folder, expected=error.expected, got=error.got) from error

    def like(self, images: Tensor) -> Network:
        """The network on the images' device and of their type, to which it is copied once."""
        key = images.device, images.dtype
        if key not in self._networks:
            self._networks[key] = self._network().to(*key)
        return self._networks[key]

    def _network(self) -> Network:
        with torch.device("meta"):
            network = self.shaped(self.weights)
        own = {name: one for name, one in self.weights.items() if name not in self.beside}
        expected, got = _kinds(network.state_dict()), _kinds(own)
        if got != expected:
            raise ArtifactError(f"not {self.described}", expected=expected, got=got)
        bad = [name for name, one in own.items() if not bool(one.isfinite().all())]
        if bad:
            raise ArtifactError("weights that are not finite", got=", ".join(bad))
        network.load_state_dict(own, assign=True)
        return network.requires_grad_(False).eval()


class NetworkRecipe(ArtifactRecipe):
    """A network that was trained on windows of the training images."""

    epochs: int = Field(ge=1, description="passes over the windows")
    batch_size: int = Field(ge=1, description="windows of a step, at most")
    windows: int = Field(ge=2, description="how many, at most one of each image")
    side: int = Field(ge=1, description="of a window, pixels")

    @property
    def purpose(self) -> str:
        """Of the windows' draw: those of the smallest keys are taken."""
        return f"{self.kind} window"

    def windows_of(self, images: int) -> int:
        """How many windows of so many images there are, unless images are set aside."""
        return min(self.windows, images)


class NetworkOptions(FittedOptions):
    """The options of a defense that is fitted with a network."""

    windows: int = Field(
        50_000, ge=2, le=2**20, description="windows that it learns from and is judged by, at most one of each training image; they "
        "are held in memory, at 4 bytes a value where noise is added and 1 elsewhere"
    )  # fmt: skip
    side: int = Field(32, ge=8, le=512, description="side of a window in pixels; images that are smaller are set aside")


def held_out_count(windows: int) -> int:
    """How many of the windows, those of the smallest keys, a network does not learn from: a tenth."""
    return max(1, round(windows * 0.1))


def _kinds(weights: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{tuple(one.shape)} {one.dtype}" for name, one in weights.items()}

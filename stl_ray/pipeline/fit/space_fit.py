"""The fit of one space: its recipe, and the folders of its steps.

A step's folder has a digest of the settings that it depends on, its own and those of the steps before it: spaces that
agree on them share it, and with another value only the steps that depend on it are made. Images, versions and the
solver are in the steps' identities instead, so that results of others are refused and not made beside.
"""

from dataclasses import dataclass
from typing import Any

from stl_ray.config import Experiment, SpaceConfig
from stl_ray.pipeline.spaces import seed_of
from stl_ray.store import Layout
from stl_ray.store.filesystem import canonical_json
from stl_ray.store.shards import sha256

_DIGITS = 8


@dataclass(frozen=True)
class SpaceFit:
    """One space to fit.

    Args:
        experiment: root, Ray resources, the quarantine limit and the solver.
        space: its recipe.
    """

    experiment: Experiment
    space: SpaceConfig

    @property
    def seed(self) -> int:
        """The seed of every step."""
        return seed_of(self.experiment, self.space)

    def label(self, step: str) -> str:
        """What is shown with a step's progress."""
        return f"fit {step} of {self.space.name}"

    def key(self, name: str) -> str:
        """The configuration key of one of the space's settings, for messages."""
        return f"spaces.{self.experiment.spaces.index(self.space)}.{name}"

    @property
    def training(self) -> dict[str, Any]:
        """The settings that decide the autoencoder."""
        config = self.space.autoencoder
        if config.pretrained is not None:
            return {"pretrained": config.pretrained, "side": config.side}
        return {"autoencoder": config.model_dump(mode="json", exclude={"pretrained"}), "seed": self.seed}

    @property
    def clustering(self) -> dict[str, Any]:
        """The settings that decide the clusters, given the latents."""
        recipe = self.space.recipe()
        return {
            "fit": {name: recipe[name] for name in recipe.keys() - {"autoencoder", "dictionary"}},
            "seed": self.seed,
        }

    @property
    def thumbnails(self) -> str:
        """The folder of the thumbnails, relative to the root."""
        return _step("thumbnails", self.space.autoencoder.side)

    @property
    def autoencoder(self) -> str:
        """The folder of the autoencoder."""
        return _step("autoencoder", self.training)

    @property
    def latents(self) -> str:
        """The folder of the latents."""
        return _step("latents", self.training)

    @property
    def strata(self) -> str:
        """The folder of the clusters."""
        return _step("strata", self._clustered)

    @property
    def samples(self) -> str:
        """The folder of the images that dictionaries are learned from."""
        return _step("samples", self._drawn)

    @property
    def dictionaries(self) -> str:
        """The folder of all dictionaries."""
        return _step("dictionaries", [self._drawn, self.space.dictionary.model_dump(mode="json")])

    def dictionary(self, name: str) -> str:
        """The folder of one dictionary: `universal` or that of a cluster."""
        return f"{self.dictionaries}/{name}"

    @property
    def _clustered(self) -> list[Any]:
        return [self.training, self.clustering]

    @property
    def _drawn(self) -> list[Any]:
        return [*self._clustered, self.space.dictionary.images, self.space.dictionary.holdout]


def _step(name: str, settings: object) -> str:
    return Layout.step(name, sha256(canonical_json(settings))[:_DIGITS])

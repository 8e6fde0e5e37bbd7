"""What the attacks of the tiers and their checks share: defenses, images, identities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stl_ray.config import Experiment, NamedAttack
from stl_ray.evaluation import CascadeAttack, DefendedClassifier
from stl_ray.evaluation.tier_attacks import cascade_attacks_on, checked_images, counts_within, threats_in_order
from stl_ray.pipeline.defended import load_defended
from stl_ray.pipeline.evaluate.subset import rows_of
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.runtime.session import device_of
from stl_ray.runtime.shard_task import TableTask
from stl_ray.store import Dataset, Layout, PlannedShard, Storage, require_same
from stl_ray.threats import ThreatTier


@dataclass(frozen=True)
class Context:
    """The inputs of the runs of the tiers, on the driver as in an actor."""

    experiment: Experiment
    clean: Dataset
    defended: dict[str, DefendedClassifier]
    substitute: dict[str, DefendedClassifier] | None

    @classmethod
    def of(cls, experiment: Experiment, device: str) -> "Context":
        """Load the inputs of an experiment.

        Raises:
            IncompleteRunError: if an input was not made yet.
        """
        root = experiment.root
        return cls(
            experiment,
            dataset_of(root, Layout(root).ingested("test")),
            load_defended(experiment, device),
            substitute_of(experiment, device),
        )

    @property
    def images(self) -> int | None:
        """Images that are attacked; None: all."""
        return self.experiment.evaluate.tiers.images

    @property
    def checked(self) -> int | None:
        """Images that the checks are run on."""
        return checked_images(self.images, self.experiment.evaluate.sanity)

    def cascade_attacks(self, name: str) -> list[CascadeAttack]:
        """The attacks on one defense."""
        return cascade_attacks_on(name, self.experiment.evaluate.tiers, self.defended[name], self.substitute)

    def attacks(self, name: str) -> dict[str, ThreatTier]:
        """The tiers of the attacks on one defense, stored sets among them, in their order."""
        return threats_in_order(name, self.earlier(), self.cascade_attacks(name))

    def earlier(self) -> list[NamedAttack]:
        """The stored sets that are within the budget of the tiers, and so count in the worst case."""
        return [
            item for item in self.experiment.attack.sets if counts_within(item, self.experiment.evaluate.tiers.budget)
        ]

    def identity(self, name: str) -> dict[str, Any]:
        """Whatever can change the verdicts on a defense, except the stored sets."""
        tiers = self.experiment.evaluate.tiers.model_dump(mode="json", exclude={"substitute"})
        other = None if self.substitute is None else self.substitute.get(name)
        return {
            **self.defended[name].identity,
            "clean": self.clean.digest,
            "seed": self.experiment.seed,
            "tiers": tiers,
            "substitute": None if other is None else other.identity,
        }


def substitute_of(experiment: Experiment, device: str) -> dict[str, DefendedClassifier] | None:
    """The substitute experiment's defenses with its classifiers, where one is named."""
    root = experiment.evaluate.tiers.substitute
    return None if root is None else load_defended(experiment, device, Storage.open(root).root)


@dataclass
class AttackedTask(TableTask):
    """The common part of both tasks.

    Args:
        experiment: as the driver has it.
        identities: of the runs; the inputs that are loaded here must have the same.
    """

    experiment: Experiment
    identities: dict[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        self._device = device_of(self.experiment.ray)
        self._context = Context.of(self.experiment, self._device)
        self._layout = Layout(self.experiment.root)
        self._defenses = {self._folder(name): name for name in self._context.defended}
        for run, wanted in self.identities.items():
            identity = self._context.identity(self._defenses[run])
            require_same({key: wanted[key] for key in identity}, identity, run)

    def _folder(self, name: str) -> str:
        raise NotImplementedError

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The clean images of the shard."""
        return rows_of(self._context.clean, shard.source)

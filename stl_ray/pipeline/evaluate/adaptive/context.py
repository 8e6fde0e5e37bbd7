"""What the attacks of the tiers and their checks share: defenses, images, identities."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stl_ray.config import Experiment, NamedAttack
from stl_ray.defenses import Calibration
from stl_ray.evaluation import CascadeAttack, DefendedClassifier
from stl_ray.evaluation.tier_attacks import cascade_attacks_on, checked_images, counts_within, threats_in_order
from stl_ray.pipeline.attack.sets import sets_of
from stl_ray.pipeline.batches import class_names
from stl_ray.pipeline.defended import Block, load_blocks
from stl_ray.pipeline.evaluate.subset import rows_of
from stl_ray.pipeline.evaluate.substitute import substitutes_of
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.runtime.session import device_of
from stl_ray.runtime.shard_task import TableTask
from stl_ray.store import Dataset, Layout, PlannedShard, require_planned
from stl_ray.threats import ThreatTier


@dataclass(frozen=True)
class Context:
    """The inputs of the runs of one block, on the driver as in an actor."""

    experiment: Experiment
    clean: Dataset
    block: Block
    substitute: dict[str, DefendedClassifier] | None

    @classmethod
    def all_of(
        cls, experiment: Experiment, device: str, stand_ins: Mapping[str, Calibration] | None = None
    ) -> "list[Context]":
        """Load the inputs of every block of an experiment.

        Args:
            experiment: of the blocks.
            device: to load to.
            stand_ins: by folder, calibrations of detectors, for an estimate.

        Raises:
            IncompleteRunError: if an input was not made yet.
            ConfigError: if the substitute experiment has nothing in a block's or a defense's place.
        """
        clean = dataset_of(experiment.root, Layout(experiment.root).ingested("test"))
        blocks = load_blocks(experiment, class_names(clean), device, stand_ins)
        substitutes = substitutes_of(experiment, blocks, class_names(clean), device)
        return [cls(experiment, clean, block, substitutes.get(name)) for name, block in blocks.items()]

    @property
    def defended(self) -> dict[str, DefendedClassifier]:
        """Every defense by its name, with the classifier as it is deployed behind it."""
        return self.block.defended

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
        return threats_in_order(
            self.block.name, name, self.earlier(), self.cascade_attacks(name), retrained=self.block.retrained(name)
        )

    def earlier(self) -> list[NamedAttack]:
        """The stored sets that are within the budget of the tiers, and so count in the worst case."""
        limit = self.experiment.evaluate.tiers.budget
        return [item for item in sets_of(self.experiment, self.block.name) if counts_within(item, limit)]

    def detector(self, name: str) -> dict[str, Callable[[Any], Any]]:
        """The entry of an identity that the deployed classifier's detector behind a defense is, where there is one."""
        fits = self.block.detectors(self.experiment, name)
        return {"detector": list(fits.values())[-1].make} if fits else {}

    def identity(self, name: str) -> dict[str, Any]:
        """Whatever can change what becomes of a defense under an attack, whichever it is."""
        tiers = self.experiment.evaluate.tiers
        return {
            **self.defended[name].identity,
            "clean": self.clean.digest,
            "seed": self.experiment.seed,
            "budget": tiers.budget.model_dump(mode="json"),
            "samples": tiers.samples,
        }


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
        self._layout = Layout(self.experiment.root)
        self._runs = {
            self._folder(context.block.name, name): (context, name)
            for context in Context.all_of(self.experiment, self._device)
            for name in context.defended
        }
        for context, _ in self._runs.values():
            context.block.require_detectors()
        for run, wanted in self.identities.items():
            require_planned(wanted, self._identity(*self._runs[run]), run)

    def _folder(self, classifier: str, defense: str) -> str:
        raise NotImplementedError

    def _identity(self, context: Context, name: str) -> dict[str, Any]:
        """The identity of the run of a defense, as far as it is known before any run."""
        raise NotImplementedError

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The clean images of the shard."""
        return rows_of(self._runs[run][0].clean, shard.source)

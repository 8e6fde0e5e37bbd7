"""The second half of evaluate: every defense under the attacks of the tiers, and the checks on these.

Attacks are crafted here and their images not kept: what is stored is every verdict. Two runs for each defense, verdicts
(`evaluation.tiers`) and probes (`evaluation.sanity`), both on the shard runner.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import torch

from stl_ray import __version__
from stl_ray.attacks import Budget
from stl_ray.config import Experiment, NamedAttack
from stl_ray.evaluation import (
    GREY_BOX,
    KNOWLEDGE,
    UNDEFENDED,
    VERDICTS_SCHEMA,
    Assault,
    cascade_scores,
    run_cascade,
    threat_of,
)
from stl_ray.evaluation.sanity import PROBES_SCHEMA, Probes, check_all
from stl_ray.evaluation.sanity.differences import FINITE_DIFFERENCES
from stl_ray.evaluation.sanity.probing import probe
from stl_ray.evaluation.sanity.subject import Stored, Subject
from stl_ray.images import to_tensor
from stl_ray.stages.budgets import budget_of
from stl_ray.stages.chosen import plan_chosen, rows_if_any, rows_of
from stl_ray.stages.computing import TURNS
from stl_ray.stages.inputs import dataset_of
from stl_ray.stages.records import Pixels, by_size, exact_pixels_of, pixels_of
from stl_ray.stages.runner import PlannedRun, ShardJob
from stl_ray.stages.session import device_of
from stl_ray.stages.victims import Behind, assaults_on, load_behind, rules_of, substitute_of
from stl_ray.stages.works import ShardOutput, TableWork
from stl_ray.store import Dataset, Layout, PlannedShard, require_same

# Images of a shard: many enough for full tiles when most of them have fallen.
SHARD = 256

QUICK = 64
"""Images that the quick checks are run on."""


@dataclass(frozen=True)
class Context:
    """What the runs of the tiers are made of, on the driver as in an actor."""

    experiment: Experiment
    clean: Dataset
    behind: dict[str, Behind]
    substitute: dict[str, Behind] | None

    @classmethod
    def of(cls, experiment: Experiment, device: str) -> "Context":
        """Load it.

        Raises:
            IncompleteRunError: if something was not made yet.
        """
        root = experiment.root
        return cls(
            experiment,
            dataset_of(root, Layout(root).ingested("test")),
            load_behind(root, experiment, device),
            substitute_of(experiment, device),
        )

    @property
    def images(self) -> int | None:
        """Images that are attacked; None: all."""
        return self.experiment.evaluate.tiers.images

    @property
    def checked(self) -> int | None:
        """Images that the checks are run on."""
        if self.experiment.evaluate.sanity == "full":
            return self.images
        return QUICK if self.images is None else min(QUICK, self.images)

    def assaults(self, name: str) -> list[Assault]:
        """The attacks on one defense."""
        tiers, seed = self.experiment.evaluate.tiers, self.experiment.seed
        return assaults_on(name, tiers, self.behind[name], self.substitute, seed)

    def earlier(self) -> list[NamedAttack]:
        """The stored sets that are within the budget of the tiers, and so count in the worst case."""
        return [
            item
            for item in self.experiment.attack.sets
            if _within(item, budget_of(self.experiment.evaluate.tiers.budget))
        ]

    def identity(self, name: str) -> dict[str, Any]:
        """What can change the verdicts on a defense, but for the sets that were attacked before."""
        tiers = self.experiment.evaluate.tiers.model_dump(mode="json", exclude={"substitute"})
        other = None if self.substitute is None else self.substitute.get(name)
        return {
            **self.behind[name].identity,
            "clean": self.clean.digest,
            "seed": self.experiment.seed,
            "tiers": tiers,
            "substitute": None if other is None else other.identity,
        }


def _within(item: NamedAttack, budget: Budget) -> bool:
    own = budget_of(item)
    # A set at a mean dissimilarity has images over it.
    per_image = item.budget == "per_image"
    return per_image and (own.kind, own.space) == (budget.kind, budget.space) and own.size <= budget.size


def plan_tiers(experiment: Experiment) -> ShardJob | None:
    """The verdicts of every defense; None where no attack is configured.

    Raises:
        IncompleteRunError: if the predictions on the stored sets are not there yet.
    """
    if not experiment.evaluate.tiers.attacks:
        return None
    context = Context.of(experiment, "cpu")
    layout = Layout(experiment.root)
    shards = plan_chosen(context.clean, context.images, SHARD)
    runs = []
    for name in context.behind:
        earlier = {
            item.name: dataset_of(experiment.root, layout.predictions(name, item.name)).digest
            for item in context.earlier()
        }
        runs.append(PlannedRun(layout.verdicts(name), shards, {**context.identity(name), "earlier": earlier}))
    identities = {run.folder: run.identity for run in runs}
    return ShardJob("attack the defenses", runs, partial(TiersWork, experiment, identities))


def plan_checks(experiment: Experiment) -> ShardJob | None:
    """The probes of every defense; None where no attack is configured."""
    if not experiment.evaluate.tiers.attacks:
        return None
    context = Context.of(experiment, "cpu")
    layout = Layout(experiment.root)
    shards = plan_chosen(context.clean, context.checked, QUICK // 2)
    sets = {
        item.name: dataset_of(experiment.root, layout.attacked(item.name)).digest for item in experiment.attack.sets
    }
    level = experiment.evaluate.sanity
    runs = [
        PlannedRun(layout.probes(name), shards, {**context.identity(name), "sets": sets, "level": level})
        for name in context.behind
        if name != UNDEFENDED
    ]
    identities = {run.folder: run.identity for run in runs}
    return ShardJob("check the attacks", runs, partial(ChecksWork, experiment, identities))


@dataclass
class AttackedWork(TableWork):
    """What both runs share.

    Args:
        experiment: as the driver has it.
        identities: of the runs, which what is loaded here must agree with.
    """

    experiment: Experiment
    identities: dict[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        self._device = device_of(self.experiment.ray)
        self._context = Context.of(self.experiment, self._device)
        self._layout = Layout(self.experiment.root)
        self._defenses = {self._folder(name): name for name in self._context.behind}
        for run, wanted in self.identities.items():
            found = self._context.identity(self._defenses[run])
            require_same({key: wanted[key] for key in found}, found, run)

    def _folder(self, name: str) -> str:
        raise NotImplementedError

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The clean images of the shard."""
        return rows_of(self._context.clean, shard.source)


@dataclass
class TiersWork(AttackedWork):
    """Verdicts of one defense on the images of a shard."""

    def _folder(self, name: str) -> str:
        return self._layout.verdicts(name)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """Attack the images of one shard by every attack of the tiers."""
        name = self._defenses[run]
        behind = self._context.behind[name]
        ids, labels = table.column("id").to_pylist(), table.column("label").to_numpy()
        earlier = self._earlier(name, shard)
        rows: dict[int, dict[str, Any]] = {}
        for positions, images in by_size(pixels_of(table), self._device):
            own = [ids[position] for position in positions]
            truth = torch.from_numpy(labels[positions]).to(self._device)
            with TURNS.turn():
                found = run_cascade(
                    behind.victim(behind.strongest, 1, self.experiment.seed),
                    self._context.assaults(name),
                    rules_of(self.experiment),
                    images,
                    truth,
                    own,
                    earlier=[earlier.get(item, []) for item in own],
                )
            for position, item, verdicts in zip(positions, own, found, strict=True):
                rows[position] = {"id": item, "label": int(labels[position]), "verdicts": verdicts}
        return ShardOutput(pa.Table.from_pylist([rows[place] for place in sorted(rows)], schema=VERDICTS_SCHEMA))

    def _earlier(self, name: str, shard: PlannedShard) -> dict[str, list[dict[str, Any]]]:
        """By id, the deployed pipeline's verdicts on the stored sets within the budget."""
        found: dict[str, list[dict[str, Any]]] = {}
        column = "retrained" if self.experiment.train.retrain else "vanilla"
        for item in self._context.earlier():
            predictions = dataset_of(self.experiment.root, self._layout.predictions(name, item.name))
            attacked = dataset_of(self.experiment.root, self._layout.attacked(item.name))
            measured = rows_if_any(attacked, shard.source, ["status", "dissimilarity", "linf", "queries"])
            for image, row in rows_if_any(predictions, shard.source, [column]).items():
                verdict = {
                    "attack": item.name,
                    "tier": str(threat_of(item.name, name, item.victim)),
                    "prediction": row[column],
                }
                found.setdefault(image, []).append(verdict | {k: v for k, v in measured[image].items() if k != "id"})
        return found


@dataclass
class ChecksWork(AttackedWork):
    """Probes of one defense on the images of a shard."""

    def _folder(self, name: str) -> str:
        return self._layout.probes(name)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """Ask the pipeline everything that the checks look at."""
        behind = self._context.behind[self._defenses[run]]
        tiers, seed = self.experiment.evaluate.tiers, self.experiment.seed
        subject = Subject(
            behind.victim(behind.strongest, tiers.samples, seed),
            budget_of(tiers.budget),
            tiers.budget.store,
            seed,
            self.experiment.evaluate.sanity,
        )
        ids, labels = table.column("id").to_pylist(), table.column("label").to_numpy()
        sets = self._sets(shard)
        rows: dict[int, dict[str, Any]] = {}
        for positions, images in by_size(pixels_of(table), self._device):
            own = [ids[position] for position in positions]
            truth = torch.from_numpy(labels[positions]).to(self._device)
            stored = {
                item.name: Stored(
                    to_tensor([pixels[position] for position in positions]).to(self._device),
                    budget_of(item),
                    item.store,
                )
                for item, pixels in sets
            }
            differences = [shard.number == 0 and position < FINITE_DIFFERENCES for position in positions]
            with TURNS.turn():
                found = probe(subject, images, truth, own, differences, stored)
            rows |= dict(zip(positions, found, strict=True))
        return ShardOutput(pa.Table.from_pylist([rows[place] for place in sorted(rows)], schema=PROBES_SCHEMA))

    def _sets(self, shard: PlannedShard) -> list[tuple[NamedAttack, list[Pixels]]]:
        """The chosen images in every stored set in which each has a budget of its own."""
        found = []
        for item in self.experiment.attack.sets:
            if item.budget == "per_image":
                attacked = dataset_of(self.experiment.root, self._layout.attacked(item.name))
                found.append((item, exact_pixels_of(rows_of(attacked, shard.source))))
        return found


def tier_scores(experiment: Experiment, chance: float) -> dict[str, Any] | None:
    """The part of scores.json that speaks of the tiers; None where no attack is configured.

    Raises:
        IncompleteRunError: if verdicts or probes are not there yet.
    """
    if not experiment.evaluate.tiers.attacks:
        return None
    context, layout = Context.of(experiment, "cpu"), Layout(experiment.root)
    tables = {name: _whole(experiment, layout.verdicts(name)) for name in context.behind}
    digests = {name: _digest(table.column("id").to_pylist()) for name, table in tables.items()}
    tiers = experiment.evaluate.tiers
    rows = []
    for name, table in tables.items():
        scores = cascade_scores(table, name)
        flags: list[dict[str, Any]] = []
        if name != UNDEFENDED:
            flags = check_all(
                Probes.of(_whole(experiment, layout.probes(name)), name),
                chance=chance,
                samples=tiers.samples,
                scores=scores,
                ids=frozenset(digests.values()),
                record={
                    **context.behind[name].identity,
                    "attacks": [item.name for item in context.assaults(name)],
                    "budget": budget_of(tiers.budget).model_dump(mode="json"),
                    "ids_sha256": digests[name],
                    "seed": str(experiment.seed),
                    "version": __version__,
                },
            )
        rows.append({"defense": name, "gradient": context.behind[name].strongest, **scores, "flags": flags})
    return {
        "budget": {**budget_of(tiers.budget).model_dump(mode="json"), "store": tiers.budget.store},
        "setting": "retrained" if experiment.train.retrain else "vanilla",
        "cascade": tiers.cascade,
        "sanity": experiment.evaluate.sanity,
        "knowledge": {str(tier): line for tier, line in KNOWLEDGE.items()},
        "grey_box": [str(tier) for tier in GREY_BOX],
        "ids_sha256": next(iter(digests.values())),
        "rows": rows,
    }


def _whole(experiment: Experiment, folder: str) -> pa.Table:
    return pa.concat_tables(dataset_of(experiment.root, folder).tables())


def _digest(ids: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()

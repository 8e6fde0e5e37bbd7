"""evaluate: every defense x (clean and every attack) x (vanilla, retrained) on the same images -> scores.

The verdicts are those of the deployed pipeline, classifier(q8(T(q8(x)))); how often the float pipeline would have said
otherwise is counted beside them. Each defense's retrained classifier sees its own defense's output; for "none" it is
the vanilla one. After that every defense meets attacks that know of it (`tiers`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from stl_ray.config import Experiment
from stl_ray.defenses import Defense, Purified, make_defense
from stl_ray.errors import AuditError
from stl_ray.evaluation import (
    ATTACK_COLUMNS,
    NO_VERDICT,
    PREDICTIONS_SCHEMA,
    UNDEFENDED,
    Setting,
    attack_summaries,
    score,
)
from stl_ray.images import quantize, to_tensor
from stl_ray.metrics import psnr
from stl_ray.models import Victim, predict
from stl_ray.pipeline.attack.job import identity_of as attack_identity
from stl_ray.pipeline.attack.target import attacked_of
from stl_ray.pipeline.batches import by_size, class_names, exact_pixels_of, pixels_of, plan_parts
from stl_ray.pipeline.evaluate.adaptive import headline, plan_checks, plan_tiers, tier_scores
from stl_ray.pipeline.evaluate.gallery import write_gallery
from stl_ray.pipeline.evaluate.models import retrained_name
from stl_ray.pipeline.inputs import classifier_of, dataset_of, make_defenses, with_solver
from stl_ray.runtime.concurrency import TURNS
from stl_ray.runtime.session import device_of
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob, run_shards
from stl_ray.runtime.shard_task import ShardOutput, TableWork
from stl_ray.seeding import seed_of
from stl_ray.store import Dataset, Layout, PlannedShard, Run, Storage, require_same
from stl_ray.store.layout import CLEAN, VANILLA


def run(experiment: Experiment) -> dict[str, Any]:
    """Predict every cell, score, and write scores.json and the gallery; predictions, counted, and the worst cases in words.

    Raises:
        IncompleteRunError: if a job before this one is not done.
    """
    experiment = with_solver(experiment)
    layout = Layout(experiment.root)
    cells = cells_of(experiment)
    run_shards(_job(experiment, cells), experiment)
    for planned in (plan_tiers, plan_checks):
        job = planned(experiment)
        if job is not None:
            run_shards(job, experiment)
    predictions = {cell: pa.concat_tables(Dataset.open(layout.uri(run.folder)).tables()) for cell, run in cells.items()}
    names = class_names(dataset_of(experiment.root, layout.ingested("test")))
    crafted = {item.name: item.victim for item in experiment.attack.sets}
    settings: tuple[Setting, ...] = ("vanilla", "retrained") if experiment.train.retrain else ("vanilla",)
    scores = score(
        predictions, classifier=experiment.train.classifier, class_names=names, settings=settings, crafted=crafted
    )
    attacked = {name: images_of(experiment, name) for name in attack_sets(experiment) if name != CLEAN}
    scores["attacks"] = attack_summaries(
        {name: pa.concat_tables(dataset.columns(*ATTACK_COLUMNS)) for name, dataset in attacked.items()}
    )
    scores["tiers"] = tier_scores(experiment, scores["chance"])
    Storage.open(experiment.root).write_json(Layout.scores, scores)
    *_, shown = defenses_with_none(experiment).items()
    write_gallery(experiment, images_of(experiment, CLEAN), attacked, *shown, predictions)
    counts: dict[str, Any] = {"images": sum(table.num_rows for table in predictions.values())}
    return counts if scores["tiers"] is None else {**counts, "summary": f"{headline(scores['tiers'])}; "}


def plan(experiment: Experiment) -> ShardJob:
    """Every cell.

    Raises:
        IncompleteRunError: if a job before this one is not done.
    """
    experiment = with_solver(experiment)
    return _job(experiment, cells_of(experiment))


def _job(experiment: Experiment, cells: dict[tuple[str, str], PlannedRun]) -> ShardJob:
    identities = {planned.folder: planned.identity for planned in cells.values()}
    return ShardJob("evaluate", list(cells.values()), partial(EvaluateWork, experiment, identities))


def cells_of(experiment: Experiment) -> dict[tuple[str, str], PlannedRun]:
    """One run of predictions for every (defense, attack set or clean)."""
    layout = Layout(experiment.root)
    clean = images_of(experiment, CLEAN)
    vanilla = classifier_of(experiment.root, VANILLA)[1]
    names = class_names(clean)
    for attack in experiment.attack.sets:
        # The set on disk must be the one that the tables will name, crafted on the same victim from these images.
        found = Run.open(experiment.root, layout.attacked(attack.name))
        crafted = attacked_of(experiment, attack.victim, names).identity
        found.require(attack_identity(experiment, attack, crafted, clean))
    cells = {}
    for name, defense in defenses_with_none(experiment).items():
        retrained = classifier_of(experiment.root, retrained_name(experiment, name))[1]
        for attack_set in attack_sets(experiment):
            dataset = images_of(experiment, attack_set)
            made_of = {"defense": defense.identity(), "vanilla": vanilla, "retrained": retrained}
            identity = {**made_of, "input": dataset.digest, "clean": clean.digest}
            folder = layout.predictions(name, attack_set)
            cells[name, attack_set] = PlannedRun(folder, _plan_pairs(dataset, clean), identity)
    return cells


def _plan_pairs(dataset: Dataset, clean: Dataset) -> list[PlannedShard]:
    """One shard for each part of a set, with the part of the clean images that it was made from."""
    if len(dataset.parts) != len(clean.parts):
        raise AuditError(
            "the set was not made from these clean shards; run `stl-ray attack` again", item=dataset.storage.root,
            expected=f"{len(clean.parts)} parts", got=len(dataset.parts),
        )  # fmt: skip
    return [
        replace(shard, source={"images": shard.source, "clean": part})
        for shard, part in zip(plan_parts(dataset), clean.parts, strict=True)
    ]


def attack_sets(experiment: Experiment) -> list[str]:
    """`clean` and the names of the attack sets, in the order of the tables."""
    return [CLEAN, *(attack.name for attack in experiment.attack.sets)]


def images_of(experiment: Experiment, attack_set: str) -> Dataset:
    """The finished dataset of an attack set, or the clean test images."""
    layout = Layout(experiment.root)
    folder = layout.ingested("test") if attack_set == CLEAN else layout.attacked(attack_set)
    return dataset_of(experiment.root, folder)


def defenses_with_none(experiment: Experiment, device: str = "cpu") -> dict[str, Defense]:
    """The undefended row, then the defenses of the experiment."""
    undefended = make_defense(UNDEFENDED, {}, space=None, stl=experiment.stl)
    return {UNDEFENDED: undefended, **make_defenses(experiment, device)}


@dataclass
class EvaluateWork(TableWork):
    """Predicts the images of a shard behind a defense, with the vanilla and the retrained classifier.

    Args:
        experiment: as the driver has it.
        identities: of the runs, which the defenses and classifiers that are loaded here must agree with.
    """

    experiment: Experiment
    identities: dict[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        layout = Layout(self.experiment.root)
        root = self.experiment.root
        self._device = device_of(self.experiment.ray)
        self._vanilla, vanilla = classifier_of(root, VANILLA, self._device)
        defenses = defenses_with_none(self.experiment, self._device)
        retrained = {n: classifier_of(root, retrained_name(self.experiment, n), self._device) for n in defenses}
        self._retrained = {name: classifier for name, (classifier, _) in retrained.items()}
        self._images = {
            attack_set: images_of(self.experiment, attack_set) for attack_set in attack_sets(self.experiment)
        }
        self._cells = {
            layout.predictions(name, attack_set): (name, defense, attack_set)
            for name, defense in defenses.items()
            for attack_set in self._images
        }
        for run, (name, defense, _) in self._cells.items():
            found = {"defense": defense.identity(), "vanilla": vanilla, "retrained": retrained[name][1]}
            require_same({key: self.identities[run][key] for key in found}, found, run)

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The images of the set's shard."""
        return self._images[self._cells[run][2]].read(shard.source["images"])

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """Predictions of images of one set behind one defense."""
        name, defense, _ = self._cells[run]
        ids, labels = table.column("id").to_pylist(), table.column("label").to_pylist()
        originals = pixels_of(self._clean(shard, ids))
        rows: dict[int, dict[str, Any]] = {}
        for positions, images in by_size(exact_pixels_of(table), self._device):
            clean = to_tensor([originals[position] for position in positions]).to(self._device)
            with TURNS.turn():
                own = [seed_of(self.experiment.seed, ids[position], "defense draw") for position in positions]
                purified = defense.purify(quantize(images), seeds=own)
                # Of an image that is stored exactly the float pipeline sees what the deployed one rounds away.
                exact = not torch.equal(quantize(images), images)
                floating = defense.purify(images, seeds=own).images if exact else purified.images
                columns = self._columns(name, purified, floating, clean)
            # Each leaves the device in one piece: image by image would wait every time for what others compute there.
            figures = {key: values.tolist() for key, values in columns.items()}
            for index, position in enumerate(positions):
                row = {key: values[index] for key, values in figures.items()}
                rows[position] = {
                    "id": ids[position],
                    "label": labels[position],
                    "status": purified.status[index],
                    **row,
                }
        return ShardOutput(pa.Table.from_pylist([rows[p] for p in sorted(rows)], schema=PREDICTIONS_SCHEMA))

    def _clean(self, shard: PlannedShard, ids: list[str]) -> pa.Table:
        """The clean images of some ids, in their order."""
        clean = self._images[CLEAN].read(shard.source["clean"])
        places = {name: place for place, name in enumerate(clean.column("id").to_pylist())}
        if not places.keys() >= set(ids):
            raise AuditError("the set's images are not those of the clean shard", item=shard.source["images"]["file"])
        return clean.take([places[name] for name in ids])

    def _columns(self, name: str, purified: Purified, floating: Tensor, clean: Tensor) -> dict[str, Tensor]:
        """What is predicted and measured of a batch behind the defense of that name, (B,) each."""
        deployed = quantize(purified.images)
        # An image whose solve diverged has no verdict, and so counts as wrong.
        lost = torch.tensor([status == "diverged" for status in purified.status], device=self._device)

        def verdict(classifier: Victim, batch: Tensor) -> Tensor:
            return predict(classifier, batch.nan_to_num()).masked_fill(lost, NO_VERDICT)

        return {
            "vanilla": verdict(self._vanilla, deployed),
            "retrained": verdict(self._retrained[name], deployed),
            "vanilla_float": verdict(self._vanilla, floating),
            "retrained_float": verdict(self._retrained[name], floating),
            "psnr": psnr(deployed, clean),
            "cluster": purified.cluster,
        }

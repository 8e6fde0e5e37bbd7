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

from stl_ray.config import Experiment
from stl_ray.errors import AuditError
from stl_ray.evaluation import (
    ATTACK_COLUMNS,
    PREDICTIONS_SCHEMA,
    DefendedClassifier,
    Setting,
    attack_summaries,
    judged,
    score,
)
from stl_ray.images import to_tensor
from stl_ray.pipeline.attack.job import identity_of as attack_identity
from stl_ray.pipeline.attack.target import attacked_of
from stl_ray.pipeline.batches import by_size, class_names, exact_pixels_of, in_order, pixels_of, plan_parts
from stl_ray.pipeline.defended import load_defended, retrained_name
from stl_ray.pipeline.evaluate.adaptive import headline, plan_checks, plan_tiers, stored_tier_scores
from stl_ray.pipeline.evaluate.gallery import write_gallery
from stl_ray.pipeline.inputs import classifier_of, dataset_of, with_solver
from stl_ray.pipeline.look import device_to_look, look_at
from stl_ray.runtime.concurrency import COMPUTE
from stl_ray.runtime.session import device_of
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob, run_shards
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.store import Dataset, Layout, PlannedShard, Run, Storage, require_same
from stl_ray.store.layout import CLEAN, VANILLA


def run(experiment: Experiment) -> dict[str, Any]:
    """Predict every cell, score, and write scores.json and the gallery; the count of predictions, worst cases in words.

    Raises:
        IncompleteRunError: if a job before this one is not done.
        TensorError: as for `look`.
    """
    experiment = with_solver(experiment)
    layout = Layout(experiment.root)
    cells = cells_of(experiment)
    remark = look(experiment)
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
    scores["tiers"] = stored_tier_scores(experiment, scores["chance"])
    Storage.open(experiment.root).write_json(Layout.scores, scores)
    *_, (name, shown) = load_defended(experiment, "cpu").items()
    write_gallery(experiment, images_of(experiment, CLEAN), attacked, name, shown.victim("none"), predictions)
    counts: dict[str, Any] = {"images": sum(table.num_rows for table in predictions.values()), **remark}
    return counts if scores["tiers"] is None else {**counts, "summary": f"{headline(scores['tiers'])}; "}


def look(experiment: Experiment) -> dict[str, str]:
    """Look at every classifier, without the defense in front of it; a `remark`, if there is any.

    Raises:
        TensorError: a classifier's answers cannot be used.
    """
    device = device_to_look(experiment.ray)
    if device is None:
        return {}
    names = {VANILLA, *(retrained_name(experiment, chosen.name) for chosen in experiment.defenses)}
    models = {name: (classifier_of(experiment.root, name, device)[0], False) for name in sorted(names)}
    return look_at(models, images_of(experiment, CLEAN), device)


def plan(experiment: Experiment) -> ShardJob:
    """The runs of every cell.

    Raises:
        IncompleteRunError: if a job before this one is not done.
    """
    experiment = with_solver(experiment)
    return _job(experiment, cells_of(experiment))


def _job(experiment: Experiment, cells: dict[tuple[str, str], PlannedRun]) -> ShardJob:
    identities = {planned.folder: planned.identity for planned in cells.values()}
    return ShardJob("evaluate", list(cells.values()), partial(EvaluateTask, experiment, identities))


def cells_of(experiment: Experiment) -> dict[tuple[str, str], PlannedRun]:
    """One run of predictions for every (defense, attack set or clean)."""
    layout = Layout(experiment.root)
    clean = images_of(experiment, CLEAN)
    vanilla = classifier_of(experiment.root, VANILLA)[1]
    names = class_names(clean)
    for attack in experiment.attack.sets:
        # The set on disk must be the one that the tables will name, crafted on the same victim from these images.
        attacked = Run.open(experiment.root, layout.attacked(attack.name))
        crafted = attacked_of(experiment, attack.victim, names).identity
        attacked.require(attack_identity(experiment, attack, crafted, clean))
    cells = {}
    for name, defended in load_defended(experiment, "cpu").items():
        for attack_set in attack_sets(experiment):
            dataset = images_of(experiment, attack_set)
            identity = {**_made_of(defended, vanilla), "input": dataset.digest, "clean": clean.digest}
            folder = layout.predictions(name, attack_set)
            cells[name, attack_set] = PlannedRun(folder, _plan_pairs(dataset, clean), identity)
    return cells


def _made_of(defended: DefendedClassifier, vanilla: str) -> dict[str, Any]:
    return {
        "defense": defended.identity["defense"],
        "vanilla": vanilla,
        "retrained": defended.identity["classifier"],
    }


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


@dataclass
class EvaluateTask(TableTask):
    """Predicts the images of a shard behind a defense, with the vanilla and the retrained classifier.

    Args:
        experiment: as the driver has it.
        identities: of the runs; the defenses and classifiers that are loaded here must have the same.
    """

    experiment: Experiment
    identities: dict[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        layout = Layout(self.experiment.root)
        self._device = device_of(self.experiment.ray)
        classifier, digest = classifier_of(self.experiment.root, VANILLA, self._device)
        self._images = {
            attack_set: images_of(self.experiment, attack_set) for attack_set in attack_sets(self.experiment)
        }
        self._cells = {}
        for name, defended in load_defended(self.experiment, self._device).items():
            models = {
                "vanilla": replace(defended, classifier=classifier).victim("none"),
                "retrained": defended.victim("none"),
            }
            identity = _made_of(defended, digest)
            for attack_set in self._images:
                run = layout.predictions(name, attack_set)
                require_same({key: self.identities[run][key] for key in identity}, identity, run)
                self._cells[run] = (models, attack_set)

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The images of the set's shard."""
        return self._images[self._cells[run][1]].read(shard.source["images"])

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """Predictions of images of one set behind one defense."""
        models, _ = self._cells[run]
        ids, labels = table.column("id").to_pylist(), table.column("label").to_pylist()
        originals = pixels_of(self._clean(shard, ids))
        rows: dict[int, dict[str, Any]] = {}
        for positions, images in by_size(exact_pixels_of(table), self._device):
            clean = to_tensor([originals[position] for position in positions]).to(self._device)
            batch_ids = [ids[position] for position in positions]
            with COMPUTE.held():
                predictions = judged(models, images, [labels[position] for position in positions], batch_ids, clean)
            rows |= dict(zip(positions, predictions, strict=True))
        return ShardOutput(in_order(rows, PREDICTIONS_SCHEMA))

    def _clean(self, shard: PlannedShard, ids: list[str]) -> pa.Table:
        """The clean images of some ids, in their order."""
        clean = self._images[CLEAN].read(shard.source["clean"])
        row_of = {identifier: row for row, identifier in enumerate(clean.column("id").to_pylist())}
        if not row_of.keys() >= set(ids):
            raise AuditError("the set's images are not those of the clean shard", item=shard.source["images"]["file"])
        return clean.take([row_of[identifier] for identifier in ids])

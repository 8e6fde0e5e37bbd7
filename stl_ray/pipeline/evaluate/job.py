"""evaluate: classifier x defense x (clean and every attack) x (vanilla, retrained) on the same images -> scores.

The verdicts are those of the deployed pipeline, classifier(q8(T(q8(x)))); how often the float pipeline would have said
otherwise is counted beside them. A classifier that was retrained for a defense sees that defense's output; without a
defense it is the vanilla one. After that every defense meets attacks that know of it (`tiers`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa

from stl_ray.config import Experiment
from stl_ray.defenses import Calibration
from stl_ray.errors import AuditError
from stl_ray.evaluation import (
    ATTACK_COLUMNS,
    PREDICTIONS_SCHEMA,
    attack_summaries,
    judged,
    score,
)
from stl_ray.evaluation.batches import by_size, in_order
from stl_ray.images import to_tensor
from stl_ray.models import Victim
from stl_ray.pipeline.attack.job import identity_of as attack_identity
from stl_ray.pipeline.attack.sets import all_sets, folder_of, sets_of
from stl_ray.pipeline.attack.target import victims_of
from stl_ray.pipeline.batches import class_names, exact_pixels_of, pixels_of, plan_parts
from stl_ray.pipeline.classifiers import load_classifier, scored, trained_for
from stl_ray.pipeline.defended import Block, load_blocks
from stl_ray.pipeline.defenses import make_defenses
from stl_ray.pipeline.detectors import DetectorFit
from stl_ray.pipeline.evaluate.adaptive import Context, headline, plan_checks, plan_tiers, stored_tier_scores
from stl_ray.pipeline.evaluate.cells import Cell
from stl_ray.pipeline.evaluate.draws import plan_draws, stored_draws
from stl_ray.pipeline.evaluate.gallery import write_gallery
from stl_ray.pipeline.evaluate.perturbations import plan_perturbations, stored_perturbations
from stl_ray.pipeline.inputs import dataset_of, with_solver
from stl_ray.pipeline.look import device_to_look, look_at
from stl_ray.runtime.concurrency import COMPUTE
from stl_ray.runtime.session import device_of
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob, drafts_of, run_shards
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.store import Dataset, Layout, PlannedShard, Run, Storage, require_planned
from stl_ray.store.layout import CLEAN

CellName = tuple[str, str, str]
"""Of a classifier, a defense and an attack set."""


def run(experiment: Experiment) -> dict[str, Any]:
    """Predict every cell, score, and write the scores and the gallery of every block; predictions, and worst cases in words.

    Raises:
        IncompleteRunError: if a job before this one is not done.
        RunIdentityError: if predictions, verdicts or checks are there that were made otherwise.
        TensorError: as for `look`.
    """
    experiment = with_solver(experiment)
    cells = cells_of(experiment)
    later = (plan(experiment) for plan in (plan_draws, plan_perturbations, plan_tiers, plan_checks))
    jobs = [_job(experiment, cells), *filter(None, later)]
    # What would be refused after hours of predictions is refused before any.
    drafts_of(jobs, experiment)
    remark = look(experiment)
    for job in jobs:
        run_shards(job, experiment)
    images = 0
    lines: list[str] = []
    for context in Context.all_of(experiment, "cpu"):
        predictions, line = _write_block(context, cells)
        images += predictions
        lines += [line] * bool(line)
    counts: dict[str, Any] = {"images": images, **remark}
    return {**counts, "summary": f"{'; '.join(lines)}; "} if lines else counts


def _write_block(context: Context, cells: Mapping[CellName, PlannedRun]) -> tuple[int, str]:
    """Write the scores and the gallery of a classifier; the number of its predictions, and its worst cases in words."""
    experiment, block = context.experiment, context.block
    layout, name = Layout(experiment.root), block.name
    predictions = {
        (defense, attack): pa.concat_tables(Dataset.open(layout.uri(run.folder)).tables())
        for (classifier, defense, attack), run in cells.items()
        if classifier == name
    }
    sets = sets_of(experiment, name)
    attacked = {item.name: images_of(experiment, name, item.name) for item in sets}
    scores = score(
        predictions, classifier=name, architecture=block.config.architecture, class_names=block.class_names,
        retrained=[defense.name for defense in experiment.defenses if block.config.retrained_for(defense.name)],
        detecting=[name for name in block.defended if block.detects(name)],
        crafted={item.name: item.victim for item in sets},
    )  # fmt: skip
    scores["attacks"] = attack_summaries(
        {item: pa.concat_tables(dataset.columns(*ATTACK_COLUMNS)) for item, dataset in attacked.items()}
    )
    common = set.intersection(*(set(table.column("id").to_pylist()) for table in predictions.values()))
    scores["draws"] = stored_draws(experiment, block, common)
    scores["perturbations"] = stored_perturbations(experiment, block)
    tiers = scores["tiers"] = stored_tier_scores(context, scores["chance"])
    Storage.open(experiment.root).write_json(layout.scores(name), scores)
    write_gallery(experiment, block, images_of(experiment, name, CLEAN), attacked, predictions)
    images = sum(table.num_rows for table in predictions.values())
    return images, "" if tiers is None else f"{name}: {headline(tiers)}"


def look(experiment: Experiment) -> dict[str, str]:
    """Look at every classifier, and at every defense in front of it; a `remark`, if there is any.

    Raises:
        TensorError: a classifier's answers cannot be used.
        StlRayError: a defense cannot be used, or not in front of a classifier.
    """
    device = device_to_look(experiment.ray)
    if device is None:
        return {}
    clean = images_of(experiment, "", CLEAN)
    names, models = class_names(clean), {}
    defenses = make_defenses(experiment, device)
    behind: dict[str, dict[str, Victim]] = {name: {} for name in defenses}
    for item in scored(experiment):
        for own in (None, *trained_for(experiment, item)):
            name = item.name if own is None else f"{item.name} retrained for {own}"
            model = load_classifier(experiment, item.name, own, names, device).classifier
            models[name] = model, False
            for defense in defenses if own is None else [own]:
                behind[defense][name] = model
    return look_at(models, {name: (made, behind[name]) for name, made in defenses.items()}, clean, device)


def plan(experiment: Experiment, stand_ins: Mapping[str, Calibration] | None = None) -> ShardJob:
    """The runs of every cell.

    Args:
        experiment: of the cells.
        stand_ins: by folder, calibrations in the place of those of detectors, for an estimate.

    Raises:
        IncompleteRunError: if a job before this one is not done.
    """
    experiment = with_solver(experiment)
    return _job(experiment, cells_of(experiment), stand_ins)


def _job(
    experiment: Experiment, cells: dict[CellName, PlannedRun], stand_ins: Mapping[str, Calibration] | None = None
) -> ShardJob:
    identities = {planned.folder: planned.identity for planned in cells.values()}
    return ShardJob("evaluate", list(cells.values()), partial(EvaluateTask, experiment, identities, stand_ins or {}))


def cells_of(experiment: Experiment) -> dict[CellName, PlannedRun]:
    """One run of predictions for every (classifier, defense, attack set or clean)."""
    layout = Layout(experiment.root)
    clean = images_of(experiment, "", CLEAN)
    names = class_names(clean)
    sets = all_sets(experiment)
    for attack, victim in zip(sets, victims_of(sets, experiment, names), strict=True):
        # The set on disk must be the one that the tables will name, crafted on the same victim from these images.
        identity = attack_identity(experiment, attack, victim, clean)
        Run.open(experiment.root, folder_of(attack)).require(identity)
    cells = {}
    for block in load_blocks(experiment, names, "cpu").values():
        for defense in block.defended:
            # Made before the first of these runs, and found by the others.
            detectors = {
                f"detector_{setting}": fit.make for setting, fit in block.detectors(experiment, defense).items()
            }
            for attack_set in attack_sets(experiment):
                dataset = images_of(experiment, block.name, attack_set)
                identity = Cell(block, defense, attack_set, dataset).identity(clean)
                folder = layout.predictions(block.name, defense, attack_set)
                cells[block.name, defense, attack_set] = PlannedRun(
                    folder, _plan_pairs(dataset, clean), identity, detectors
                )
    return cells


def detectors_of(experiment: Experiment) -> list[DetectorFit]:
    """The detectors of every block.

    Raises:
        IncompleteRunError: if a job before this one is not done.
    """
    blocks = load_blocks(experiment, class_names(images_of(experiment, "", CLEAN)), "cpu").values()
    return [
        fit for block in blocks for defense in block.defended for fit in block.detectors(experiment, defense).values()
    ]


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


def images_of(experiment: Experiment, classifier: str, attack_set: str) -> Dataset:
    """The finished dataset of an attack set that a classifier is scored on, or the clean test images."""
    folder = Layout(experiment.root).ingested("test")
    if attack_set != CLEAN:
        (folder,) = (folder_of(item) for item in sets_of(experiment, classifier) if item.name == attack_set)
    return dataset_of(experiment.root, folder)


@dataclass
class EvaluateTask(TableTask):
    """Predicts the images of a shard behind a defense, with a classifier as it is and as it is deployed there.

    Args:
        experiment: as the driver has it.
        identities: of the runs; the defenses and classifiers that are loaded here must have the same.
        stand_ins: by folder, calibrations in the place of those of detectors.
    """

    experiment: Experiment
    identities: dict[str, Mapping[str, Any]]
    stand_ins: Mapping[str, Calibration] = field(default_factory=dict)

    def __post_init__(self) -> None:
        layout = Layout(self.experiment.root)
        self._device = device_of(self.experiment.ray)
        self._clean = images_of(self.experiment, "", CLEAN)
        names = class_names(self._clean)
        self._cells: dict[str, tuple[Block, str, Dataset]] = {}
        for block in load_blocks(self.experiment, names, self._device, self.stand_ins).values():
            block.require_detectors()
            for defense in block.defended:
                made_of = block.made_of(defense)
                for attack_set in attack_sets(self.experiment):
                    run = layout.predictions(block.name, defense, attack_set)
                    require_planned({key: self.identities[run][key] for key in made_of}, made_of, run)
                    self._cells[run] = (block, defense, images_of(self.experiment, block.name, attack_set))

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The images of the set's shard."""
        return self._cells[run][2].read(shard.source["images"])

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """Predictions of images of one set behind one defense."""
        block, defense, _ = self._cells[run]
        models = block.models(defense)
        ids, labels = table.column("id").to_pylist(), block.labels(table.column("label").to_pylist()).tolist()
        originals = pixels_of(self._clean_rows(shard, ids))
        rows: dict[int, dict[str, Any]] = {}
        for positions, images in by_size(exact_pixels_of(table), self._device):
            clean = to_tensor([originals[position] for position in positions]).to(self._device)
            batch_ids = [ids[position] for position in positions]
            with COMPUTE.held():
                predictions = judged(models, images, [labels[position] for position in positions], batch_ids, clean)
            rows |= dict(zip(positions, predictions, strict=True))
        return ShardOutput(in_order(rows, PREDICTIONS_SCHEMA))

    def _clean_rows(self, shard: PlannedShard, ids: list[str]) -> pa.Table:
        """The clean images of some ids, in their order."""
        clean = self._clean.read(shard.source["clean"])
        row_of = {identifier: row for row, identifier in enumerate(clean.column("id").to_pylist())}
        if not row_of.keys() >= set(ids):
            raise AuditError("the set's images are not those of the clean shard", item=shard.source["images"]["file"])
        return clean.take([row_of[identifier] for identifier in ids])

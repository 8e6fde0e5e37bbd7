"""The attacks of the tiers on every defense. Every verdict is stored, their images are not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
from torch import Tensor

from stl_ray.config import Experiment
from stl_ray.evaluation import VERDICTS_SCHEMA, verdict_rows
from stl_ray.evaluation.batches import by_size, in_order
from stl_ray.evaluation.tier_attacks import cascade_settings_of, stored_verdict
from stl_ray.pipeline.attack.sets import folder_of
from stl_ray.pipeline.batches import pixels_of
from stl_ray.pipeline.evaluate.adaptive.context import AttackedTask, Context
from stl_ray.pipeline.evaluate.subset import plan_subset, rows_if_any
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.runtime.concurrency import COMPUTE
from stl_ray.runtime.session import device_of
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob
from stl_ray.runtime.shard_task import ShardOutput
from stl_ray.store import Layout, PlannedShard
from stl_ray.threats import ThreatTier

SHARD = {"cpu": 64, "cuda": 256}
"""Images of a shard, by device: many enough for full tiles when most of them are misclassified, and few enough on a
CPU, where an attack may take minutes for one of them, that progress shows and that little is lost with a worker."""


def plan_tiers(experiment: Experiment) -> ShardJob | None:
    """The verdicts of every defense; None where no attack is configured.

    Raises:
        IncompleteRunError: if a stored set is not there yet.
    """
    if not experiment.evaluate.tiers.attacks:
        return None
    layout, runs = Layout(experiment.root), []
    for context in Context.all_of(experiment, "cpu"):
        block, shards = context.block.name, verdict_shards(context)
        for name in context.defended:
            folders = [layout.predictions(block, name, item.name) for item in context.earlier()]
            made: dict[str, Callable[[Any], Any]] = {
                **context.detector(name),
                "earlier": partial(_digests, experiment.root, folders),
            }
            runs.append(PlannedRun(layout.verdicts(block, name), shards, verdicts_identity(context, name), made))
    identities = {run.folder: run.identity for run in runs}
    return ShardJob("attack the defenses", runs, partial(TiersTask, experiment, identities))


def verdicts_identity(context: Context, name: str) -> dict[str, Any]:
    """Whatever can change the verdicts on a defense, but for the predictions on the stored sets: the attacks that it meets.

    Raises:
        IncompleteRunError: if a stored set is not there yet.
    """
    root, tiers = context.experiment.root, context.experiment.evaluate.tiers
    met = {attack.name: attack.tier for attack in context.cascade_attacks(name)}
    other = context.substitute[name] if context.substitute and ThreatTier.TRANSFER in met.values() else None
    return {
        **context.identity(name),
        "sets": [[item.name, dataset_of(root, folder_of(item)).digest] for item in context.earlier()],
        "attacks": [item.model_dump(mode="json") for item in tiers.attacks if item.name in met],
        "cascade": tiers.cascade,
        "seconds": tiers.seconds,
        "substitute": None if other is None else other.identity,
    }


def _digests(root: str, folders: Sequence[str], stored: Any) -> list[str]:
    """The digests of finished datasets, whatever those were that a run is stored with."""
    return [dataset_of(root, folder).digest for folder in folders]


def verdict_shards(context: Context) -> list[PlannedShard]:
    """The images that every defense is attacked on."""
    return plan_subset(context.clean, context.images, SHARD[device_of(context.experiment.ray)])


def verdicts_of(
    context: Context,
    name: str,
    images: Tensor,
    labels: Tensor,
    ids: Sequence[str],
    earlier: Mapping[str, list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """One defense under every attack of the tiers: rows of `VERDICTS_SCHEMA`.

    Args:
        context: what is attacked, and by what.
        name: of the defense.
        images: (B, 3, H, W) float32 in [0, 1] on the 8-bit grid.
        labels: (B,) int64.
        ids: of the images.
        earlier: by id, the verdicts on stored sets.
    """
    defended, experiment = context.defended[name], context.experiment
    settings = cascade_settings_of(experiment.evaluate.tiers, experiment.seed)
    return verdict_rows(defended, context.cascade_attacks(name), settings, images, labels, ids, earlier)


@dataclass
class TiersTask(AttackedTask):
    """Verdicts of one defense on the images of a shard."""

    def _folder(self, classifier: str, defense: str) -> str:
        return self._layout.verdicts(classifier, defense)

    def _identity(self, context: Context, name: str) -> dict[str, Any]:
        return verdicts_identity(context, name)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """Attack the images of one shard by every attack of the tiers."""
        context, name = self._runs[run]
        ids, labels = table.column("id").to_pylist(), context.block.labels(table.column("label").to_pylist())
        earlier = _earlier(context, name, shard)
        rows: dict[int, dict[str, Any]] = {}
        for positions, images in by_size(pixels_of(table), self._device):
            batch_ids = [ids[position] for position in positions]
            truth = labels[positions]
            with COMPUTE.held():
                verdicts = verdicts_of(context, name, images, truth, batch_ids, earlier)
            rows |= dict(zip(positions, verdicts, strict=True))
        return ShardOutput(in_order(rows, VERDICTS_SCHEMA))


def _earlier(context: Context, name: str, shard: PlannedShard) -> dict[str, list[dict[str, Any]]]:
    """By id, the deployed pipeline's verdicts on the stored sets within the budget."""
    verdicts: dict[str, list[dict[str, Any]]] = {}
    root, block = context.experiment.root, context.block.name
    for item in context.earlier():
        predictions = dataset_of(root, Layout(root).predictions(block, name, item.name))
        measured = rows_if_any(dataset_of(root, folder_of(item)), shard.source, _MEASURED)
        for image, row in rows_if_any(predictions, shard.source, _DECIDED).items():
            verdict = stored_verdict(item, block, name, row, measured[image], retrained=context.block.retrained(name))
            verdicts.setdefault(image, []).append(verdict)
    return verdicts


_DECIDED = ("retrained", "retrained_rejected")
_MEASURED = ("status", "dissimilarity", "linf", "queries")

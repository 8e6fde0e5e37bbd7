"""Patches of the training images at random or salient places, drawn by the shard runner: what libraries of patches are made of."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stl_ray.config import Experiment
from stl_ray.errors import ImageError, QuarantineReason
from stl_ray.evaluation.batches import BATCH
from stl_ray.images import decode
from stl_ray.pipeline.batches import STORED_PIXELS, plan_parts
from stl_ray.pipeline.fit.saliency import SaliencyMaps
from stl_ray.pipeline.fitted import ArtifactFit, looking
from stl_ray.pipeline.inputs import training_images
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.store import Dataset, PlannedShard, QuarantinedRow, require_planned
from stl_ray.training.defenses.patches import Drawn, cut_patches, key_limit, keys_of, patches_per_image

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("keys", pa.list_(pa.int64())),
        ("patches", pa.list_(pa.binary())),  # (3, side, side) uint8 in C order
    ]
)


@dataclass(frozen=True)
class PatchDraw:
    """How many patches are drawn, and what for.

    Args:
        count: of all training images together, at least.
        side: of a patch, pixels.
        purpose: two draws of other purposes differ.
        classifier: name of the one whose saliency says how probable a place is; None: all are alike.
    """

    count: int
    side: int
    purpose: str
    classifier: str | None = None


def shard_job(fit: ArtifactFit, draw: PatchDraw) -> ShardJob:
    """The job that draws them.

    Raises:
        IncompleteRunError: if the training split was not ingested.
    """
    experiment, dataset = fit.experiment, training_images(fit.experiment)
    limit = key_limit(draw.count, dataset.rows)
    settings = {**asdict(draw), "seed": experiment.seed}
    looks = None if draw.classifier is None else looking(experiment, draw.classifier).identity
    identity = {**settings, "limit": limit, "input": dataset.digest, "classifier": looks}
    planned = PlannedRun(fit.step("patches", settings), plan_parts(dataset), identity)
    task = partial(PatchTask, experiment, dataset, draw, patches_per_image(draw.count, dataset.rows), limit, looks)
    return ShardJob(fit.label("patches"), [planned], task, gpu=looks is not None)


def drawn(patches: Dataset) -> Iterator[Drawn]:
    """The keys and patches of every shard."""
    for table in patches.tables():
        keys = table.column("keys").combine_chunks().flatten().to_numpy()
        values = [
            np.frombuffer(value, np.uint8) for value in table.column("patches").combine_chunks().flatten().to_pylist()
        ]
        if len(keys):
            yield keys, np.stack(values)


@dataclass
class PatchTask(TableTask):
    """Draws patches of the images of a shard that a small key chooses; one of these that is smaller than a patch is set aside.

    Args:
        experiment: as the driver has it.
        dataset: the training images.
        draw: what is drawn.
        each: patches of an image.
        limit: of the keys.
        looks: identity of the classifier that images are looked at with; the one that is loaded here must have the same.
    """

    experiment: Experiment
    dataset: Dataset
    draw: PatchDraw
    each: int
    limit: int
    looks: Any

    def __post_init__(self) -> None:
        name = self.draw.classifier
        self._maps = None if name is None else SaliencyMaps(self.experiment, name)
        if self._maps is not None:
            require_planned({"classifier": self.looks}, {"classifier": self._maps.identity}, "patches")

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The images of the shard."""
        return self.dataset.read(shard.source)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """A row for every image, in their order; without patches, and not looked at, where no small key chooses it."""
        rows: list[dict[str, Any]] = []
        quarantine: list[QuarantinedRow] = []
        for start in range(0, table.num_rows, BATCH):
            batch = table.slice(start, BATCH).select(["id", "image"])
            keys = {name: self._keys(name) for name in batch.column("id").to_pylist()}
            decoded: dict[str, NDArray[np.uint8]] = {}
            for row in batch.filter(pa.array([len(some) > 0 for some in keys.values()])).to_pylist():
                try:
                    decoded[row["id"]] = self._decoded(row["id"], row["image"]["bytes"])
                except ImageError as error:
                    quarantine.append(QuarantinedRow(row["id"], error.reason, str(error), row["image"]["bytes"]))
                    del keys[row["id"]]
            maps: list[Any] = [None] * len(decoded)
            if self._maps is not None and decoded:
                maps = self._maps.of(list(decoded.values()))
            cut = {
                name: cut_patches(image, keys[name], side=self.draw.side, saliency=saliency)
                for (name, image), saliency in zip(decoded.items(), maps, strict=True)
            }
            rows += [
                {"id": name, "keys": some.tolist(), "patches": [patch.tobytes() for patch in cut.get(name, ())]}
                for name, some in keys.items()
            ]
        return ShardOutput(pa.Table.from_pylist(rows, schema=_SCHEMA), quarantine)

    def _keys(self, name: str) -> NDArray[np.int64]:
        return keys_of(name, self.each, seed=self.experiment.seed, purpose=self.draw.purpose, limit=self.limit)

    def _decoded(self, name: str, encoded: bytes) -> NDArray[np.uint8]:
        image = decode(encoded, max_pixels=STORED_PIXELS)
        height, width = image.shape[:2]
        if min(height, width) < self.draw.side:
            raise ImageError(
                "too small for a patch", reason=QuarantineReason.TOO_SMALL, item=name,
                expected=f"at least {self.draw.side} x {self.draw.side} pixels", got=f"{width} x {height}",
            )  # fmt: skip
        return image

"""Patches of the training images at random places, drawn by the shard runner: what libraries of patches are made of."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from stl_ray.errors import ImageError, QuarantineReason
from stl_ray.images import decode
from stl_ray.pipeline.batches import STORED_PIXELS, plan_parts
from stl_ray.pipeline.fitted import ArtifactFit
from stl_ray.pipeline.inputs import training_images
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.store import Dataset, PlannedShard, QuarantinedRow
from stl_ray.training.defenses.patches import Drawn, draw_patches, patches_per_image

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
    """

    count: int
    side: int
    purpose: str


def shard_job(fit: ArtifactFit, draw: PatchDraw) -> ShardJob:
    """The job that draws them.

    Raises:
        IncompleteRunError: if the training split was not ingested.
    """
    dataset, seed = training_images(fit.experiment), fit.experiment.seed
    settings = {"count": draw.count, "side": draw.side, "purpose": draw.purpose, "seed": seed}
    planned = PlannedRun(fit.step("patches", settings), plan_parts(dataset), {**settings, "input": dataset.digest})
    each = patches_per_image(draw.count, dataset.rows)
    return ShardJob(fit.label("patches"), [planned], partial(PatchTask, dataset, draw, each, seed), gpu=False)


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
    """Draws patches of the images of a shard; an image smaller than a patch is set aside."""

    dataset: Dataset
    draw: PatchDraw
    each: int
    seed: int

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The images of the shard."""
        return self.dataset.read(shard.source)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """Patches of every image, in the order of the images."""
        side, rows = self.draw.side, []
        quarantine: list[QuarantinedRow] = []
        for row in table.select(["id", "image"]).to_pylist():
            name, encoded = row["id"], row["image"]["bytes"]
            try:
                image = decode(encoded, max_pixels=STORED_PIXELS)
                if min(image.shape[:2]) < side:
                    height, width = image.shape[:2]
                    raise ImageError(
                        "too small for a patch", reason=QuarantineReason.TOO_SMALL, item=name,
                        expected=f"at least {side} x {side} pixels", got=f"{width} x {height}",
                    )  # fmt: skip
            except ImageError as error:
                quarantine.append(QuarantinedRow(name, error.reason, str(error), encoded))
                continue
            keys, patches = draw_patches(image, name, self.each, side=side, seed=self.seed, purpose=self.draw.purpose)
            rows.append({"id": name, "keys": keys.tolist(), "patches": [patch.tobytes() for patch in patches]})
        return ShardOutput(pa.Table.from_pylist(rows, schema=_SCHEMA), quarantine)

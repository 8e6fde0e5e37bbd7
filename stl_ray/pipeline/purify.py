"""Purification of the rows of a shard, as `project` does it. Knows nothing of Ray."""

import pyarrow as pa
import torch

from stl_ray.defenses import Purified, Transformation, deployed_seeds, identity_in_run
from stl_ray.defenses.own import OwnTransformation
from stl_ray.errors import QuarantineReason
from stl_ray.evaluation.batches import by_size
from stl_ray.images import class_names_of, image_schema, quantize, to_uint8
from stl_ray.metrics import psnr
from stl_ray.pipeline.batches import pixels_of, stored
from stl_ray.runtime.concurrency import COMPUTE
from stl_ray.runtime.shard_task import ShardOutput
from stl_ray.store import QuarantinedRow


def purify_table(
    defense: Transformation, table: pa.Table, *, seed: int, exclude_self: bool, device: str
) -> ShardOutput:
    """A shard of images after a defense, rounded to 8 bits, in the same order; its schema names the defense.

    Args:
        defense: the defense.
        table: rows of image records.
        seed: the run seed.
        exclude_self: whether each image stays out of its own nearest-neighbour vote (training images do).
        device: where the defense is.
    """
    ids = table.column("id").to_pylist()
    labels = table.column("label").to_pylist()
    originals = table.column("image").to_pylist()
    lost = (QuarantineReason.SOLVER_DIVERGED, "the solve did not stay finite")
    if isinstance(defense, OwnTransformation) and not defense.iterative:
        lost = (QuarantineReason.NOT_AN_IMAGE, f"what {defense.name} made of it is not finite, or not in [0, 1]")
    rows: dict[int, tuple[object, ...]] = {}
    quarantine: list[QuarantinedRow] = []
    for positions, images in by_size(pixels_of(table), device):
        batch_ids = [ids[position] for position in positions]
        with COMPUTE.held():
            purified = defense.purify(
                images, seeds=deployed_seeds(seed, batch_ids), exclude=batch_ids if exclude_self else None
            )
        kept = (~purified.diverged).nonzero()[:, 0].tolist()
        for index in sorted(set(range(len(positions))) - set(kept)):
            original = originals[positions[index]]["bytes"]
            quarantine.append(QuarantinedRow(batch_ids[index], *lost, original))
        if not kept:
            continue
        kept_positions = [positions[index] for index in kept]
        images_out = quantize(_only(purified.images, kept))
        encoded = stored(to_uint8(images_out), [originals[position]["path"] for position in kept_positions])
        figures = _figures(purified, kept, psnr(images_out, _only(images, kept)))
        for position, image, values in zip(kept_positions, encoded, figures, strict=True):
            rows[position] = (ids[position], image, labels[position], *values)
    schema = image_schema("purified", class_names_of(table.schema), {"defense": identity_in_run(defense, seed)})
    columns = zip(*(rows[position] for position in sorted(rows)), strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return ShardOutput(pa.Table.from_arrays(arrays, schema=schema), quarantine)


def _only(images: torch.Tensor, kept: list[int]) -> torch.Tensor:
    """The images that are kept; not copied where all are."""
    return images if len(kept) == len(images) else images[kept]


def _figures(purified: Purified, kept: list[int], ratios: torch.Tensor) -> list[tuple[object, ...]]:
    """Cluster, iterations, status, sparsity and PSNR of the images that are kept.

    Each leaves the device in one piece: image by image, every transfer would wait for other work there.
    """
    numbers = (part.tolist() for part in (purified.cluster, purified.iterations, purified.sparsity))
    clusters, iterations, sparsity = ([values[index] for index in kept] for values in numbers)
    statuses = [purified.status[index] for index in kept]
    return list(zip(clusters, iterations, statuses, sparsity, ratios.tolist(), strict=True))

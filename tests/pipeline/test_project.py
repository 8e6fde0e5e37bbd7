"""One shard through a defense, without Ray."""

import json

import numpy as np
import pyarrow as pa
import torch

from stl_ray.csc import Dictionary
from stl_ray.csc.fused import images_at_once
from stl_ray.defenses import make_defense
from stl_ray.evaluation.batches import BATCH, batch_size, by_size
from stl_ray.images import encode_png, image_schema
from stl_ray.pipeline.batches import pixels_of
from stl_ray.pipeline.purify import purify_table
from stl_ray.space import QuasiNaturalSpace
from stl_ray.store.shards import table_from_bytes, table_to_bytes

JPEG = make_defense("jpeg", {}, {})


def _table(images) -> pa.Table:
    rows = [
        {"id": str(number), "image": {"bytes": encode_png(image), "path": None}, "label": number % 3 - 1}
        for number, image in enumerate(images)
    ]
    return pa.Table.from_pylist(rows, schema=image_schema("image", ["a", "b"]))


def _noise(count, sides=(24,)):
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (sides[number % len(sides)], 20, 3), dtype=np.uint8) for number in range(count)]


def test_invariant_mixed_sizes_and_unknown_labels_keep_their_order():
    images = _noise(7, sides=(24, 33, 16))
    output = purify_table(JPEG, _table(images), seed=0, exclude_self=False, device="cpu")
    rows = output.table.to_pylist()
    assert [row["id"] for row in rows] == [str(number) for number in range(7)]
    assert [row["label"] for row in rows] == [number % 3 - 1 for number in range(7)]
    assert [image.shape for image in pixels_of(output.table)] == [image.shape for image in images]
    assert all(5 < row["psnr"] < 50 for row in rows)
    assert not output.quarantine


def test_invariant_an_image_is_the_same_in_every_shard():
    table = _table(_noise(BATCH + 5))
    together = purify_table(JPEG, table, seed=0, exclude_self=False, device="cpu").table.to_pylist()
    alone = [
        purify_table(JPEG, table.slice(number, 1), seed=0, exclude_self=False, device="cpu").table.to_pylist()[0]
        for number in (0, BATCH - 1, BATCH, BATCH + 4)
    ]
    for row, number in zip(alone, (0, BATCH - 1, BATCH, BATCH + 4), strict=True):
        # JPEG has no sparsity: NaN, which differs from itself.
        assert {**row, "sparsity": None} == {**together[number], "sparsity": None}


def _made_by(output) -> dict:
    return json.loads(table_from_bytes(table_to_bytes(output.table), item="part").schema.metadata[b"stl_ray"])


def test_roundtrip_an_empty_shard():
    output = purify_table(JPEG, _table([]), seed=0, exclude_self=False, device="cpu")
    assert output.table.num_rows == 0
    assert "cluster" in output.table.column_names
    assert _made_by(output) == {"defense": JPEG.identity()}


def test_identity_a_shard_names_the_space_that_it_was_made_with():
    filters = torch.nn.functional.normalize(torch.randn(4, 75, generator=torch.Generator().manual_seed(0)), dim=1)
    space = QuasiNaturalSpace.from_dictionary(Dictionary(filters.reshape(4, 3, 5, 5), 0.2))
    stl = make_defense("stl", {}, {"space": space, "solver": "admm"})
    output = purify_table(stl, _table(_noise(2)), seed=0, exclude_self=False, device="cpu")
    assert _made_by(output)["defense"]["space"] == space.digest
    assert _made_by(output) == {"defense": stl.identity()}


def test_identity_a_gpu_gets_batches_that_fill_the_tiles_of_its_solver():
    for side in (32, 224):
        tile = images_at_once(side, side, torch.device("cuda"))
        assert batch_size(side, side, "cuda") % tile == 0
        assert batch_size(side, side, "cuda") > tile
    assert batch_size(5000, 5000, "cuda") >= 1


def test_invariant_batches_hold_every_image_once_and_are_bounded():
    images = _noise(2 * BATCH + 3, sides=(24, 33))
    batches = list(by_size(images, "cpu"))
    assert max(len(positions) for positions, _ in batches) <= BATCH
    assert sorted(place for positions, _ in batches for place in positions) == list(range(len(images)))

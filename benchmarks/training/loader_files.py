"""The images that are loaded: as a dataset, and as a folder for each class."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.common.images import load_images
from stl_ray.images import encode_png, image_schema, to_uint8
from stl_ray.store import Dataset, PlannedShard, Run, Storage


@dataclass(frozen=True)
class Files:
    """The same images as a dataset and as a folder per class.

    Attributes:
        codec: jpeg or png.
        dataset: shards of 500 rows.
        folder: one folder per class.
        size: mean bytes of an image.
    """

    codec: str
    dataset: Dataset
    folder: Path
    size: float


def jpegs(size: int, count: int, data: Path | None) -> tuple[list[tuple[bytes, int]], str]:
    """JPEG bytes and a class of every image."""
    shards = sorted(data.glob("imagenet10/train-*.parquet")) if data is not None else []
    if shards and size == 224:
        table = pa.concat_tables([pq.read_table(path, columns=["image", "label"]) for path in shards]).slice(0, count)
        rows = [
            (image["bytes"], label) for image, label in zip(*map(pa.ChunkedArray.to_pylist, table.columns), strict=True)
        ]
        return rows, "ImageNet training images of ten classes"
    found = load_images(size, count, None)
    encoded = []
    for number, pixels in enumerate(to_uint8(found.pixels)):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="JPEG", quality=90)
        encoded.append((buffer.getvalue(), number % 10))
    return encoded, found.source


def written(codec: str, images: list[tuple[bytes, int]], place: Path) -> Files:
    """The images with their classes, written below a place."""
    folder = place / codec / "folder"
    rows, size = [], 0
    for number, (jpeg, label) in enumerate(images):
        data = jpeg if codec == "jpeg" else encode_png(np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")))
        path = folder / f"{label:03d}" / f"{number:06d}.{codec}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size += path.write_bytes(data)
        rows.append({"id": f"{number:06d}", "image": {"bytes": data, "path": None}, "label": label})
    names = [f"{label:03d}" for label in range(1 + max(label for _, label in images))]
    table = pa.Table.from_pylist(rows, schema=image_schema("image", names))
    run = Run(Storage.open(str(place / codec / "run")), "ingest", "train")
    starts = range(0, len(rows), 500)
    plan = [PlannedShard(n, {}, min(500, len(rows) - begin), str(n)) for n, begin in enumerate(starts)]
    run.start(plan, identity={}, environment={})
    for shard, begin in zip(plan, starts, strict=True):
        run.publish(shard, table.slice(begin, shard.rows), [], seconds=0, attempt=1, environment={})
    run.finish(max_quarantined=0)
    dataset = Dataset.open(run.storage.root)
    return Files(codec, dataset, folder, size / len(rows))

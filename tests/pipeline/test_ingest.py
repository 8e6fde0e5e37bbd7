"""The work of one ingest shard, without Ray: what is broken is set aside with its reason, the rest goes through."""

import ctypes
import io
import json
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stl_ray.errors import InputError
from stl_ray.images import class_names_of, decode, image_schema
from stl_ray.images.readers import open_reader
from stl_ray.pipeline.ingest import IngestTask, plan
from stl_ray.runtime.bisection import bisect
from stl_ray.store import Layout, PlannedShard


def _encoded(array, form="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(buffer, form, **options)
    return buffer.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
GREY = NOISE[..., 0]


def _ingest(experiment):
    """All shards of the train split; the rows and the quarantined."""
    reader = open_reader(experiment.ingest.train, split="train")
    shards = reader.plan(experiment.ingest.shard_size)
    work = IngestTask(experiment, reader.class_names)
    rows, quarantine = [], []
    for number, shard in enumerate(shards):
        planned = PlannedShard(number=number, source=shard.source, rows=shard.rows, digest=shard.digest)
        output = work(Layout(experiment.root).ingested("train"), planned)
        assert output.table.num_rows + len(output.quarantine) == shard.rows
        rows += output.table.to_pylist()
        quarantine += output.quarantine
    return rows, {row.id: row for row in quarantine}


def _folder_experiment(experiment_of, folder, **ingest):
    source = {"format": "folder", "path": str(folder)}
    return experiment_of(ingest={"train": source, "test": source, "shard_size": 3, **ingest})


@pytest.mark.faults
def test_invariant_an_image_that_kills_its_decoder_is_set_aside(experiment_of, folder_of):
    noise = np.random.default_rng(0).integers(0, 256, (3, 24, 20, 3), dtype=np.uint8)
    images = {f"{name}.png": _encoded(image) for name, image in zip(("a/1", "a/2", "b/3"), noise, strict=True)}
    poison = images["a/2.png"]

    class Poisoned(IngestTask):
        def _image(self, raw):
            if raw.data == poison:
                ctypes.string_at(0)
            return super()._image(raw)

    experiment = _folder_experiment(experiment_of, folder_of(images))
    reader = open_reader(experiment.ingest.train, split="train")
    (shard,) = reader.plan(3)
    planned = PlannedShard(number=0, source=shard.source, rows=shard.rows, digest=shard.digest)
    make = partial(Poisoned, experiment, reader.class_names)
    output = bisect(make, make(), Layout(experiment.root).ingested("train"), planned, threads=1)
    assert output.table["id"].to_pylist() == ["a/1.png", "b/3.png"]
    assert [(row.id, row.reason, row.image) for row in output.quarantine] == [("a/2.png", "kills_worker", poison)]


def test_every_kind_of_image_becomes_rgb_and_broken_ones_are_set_aside(experiment_of, folder_of):
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = _encoded(NOISE, "JPEG", quality=95)
    sound = {
        "a/rgb.png": _encoded(NOISE),
        "a/grey.png": _encoded(GREY),
        "a/rgba.png": _encoded(np.dstack([NOISE, GREY])),
        "a/palette.gif": _encoded(Image.fromarray(NOISE).quantize(16), "GIF"),
        "a/cmyk.jpg": _encoded(Image.fromarray(NOISE).convert("CMYK"), "JPEG"),
        "a/deep.png": _encoded(GREY.astype(np.uint16) * 257),
        "b/rotated.jpg": _encoded(NOISE, "JPEG", exif=exif),
        "b/modern.avif": _encoded(NOISE, "AVIF"),
        "b/modern.jp2": _encoded(NOISE, "JPEG2000"),
    }
    broken = {
        "a/truncated.jpg": (whole[: len(whole) // 2], "unreadable"),
        "a/text.png": (b"not an image", "unreadable"),
        "a/empty.png": (b"", "missing_image"),
        "a/pixel.png": (_encoded(NOISE[:1, :1]), "too_small"),
        "a/huge.png": (_encoded(np.zeros((40, 40, 3), np.uint8)), "too_large"),
    }
    folder = folder_of({**sound, **{name: data for name, (data, _) in broken.items()}})
    rows, quarantine = _ingest(_folder_experiment(experiment_of, folder, max_pixels=1000))
    images = {row["id"]: decode(row["image"]["bytes"], max_pixels=1000) for row in rows}
    assert set(images) == set(sound)
    assert {name: str(row.reason) for name, row in quarantine.items()} == {
        n: reason for n, (_, reason) in broken.items()
    }
    assert quarantine["a/truncated.jpg"].image == broken["a/truncated.jpg"][0]
    assert np.array_equal(images["a/rgb.png"], NOISE)
    assert np.array_equal(images["a/rgba.png"], NOISE)
    assert np.array_equal(images["a/grey.png"], np.dstack([GREY] * 3))
    assert np.array_equal(images["a/deep.png"], np.dstack([GREY] * 3))
    assert np.array_equal(images["b/modern.jp2"], NOISE)
    assert images["b/modern.avif"].shape == NOISE.shape
    assert images["b/rotated.jpg"].shape == (20, 24, 3)
    assert {row["id"]: row["label"] for row in rows}["b/rotated.jpg"] == 1


def test_labels_ids_and_missing_images_of_parquet(experiment_of, tmp_path):
    image = {"bytes": _encoded(NOISE), "path": None}
    names = b'{"info": {"features": {"label": {"names": ["x", "y"], "_type": "ClassLabel"}}}}'
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
        ],
        metadata={b"huggingface": names},
    )
    rows = [
        {"id": "first", "image": image, "label": 0},
        {"id": "label", "image": image, "label": 7},
        {"id": "unknown", "image": image, "label": -1},
        {"id": "none", "image": None, "label": 1},
        {"id": "first", "image": image, "label": 1},
        {"id": "last", "image": image, "label": 1},
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "data.parquet")
    source = {"format": "parquet", "path": str(tmp_path / "data.parquet")}
    rows, quarantine = _ingest(experiment_of(ingest={"train": source, "test": source, "shard_size": 2}))
    assert [(row["id"], row["label"]) for row in rows] == [("first", 0), ("unknown", -1), ("last", 1)]
    assert {name: str(row.reason) for name, row in quarantine.items()} == {
        "label": "label_out_of_range",
        "none": "missing_image",
        "first": "duplicate_id",
    }


def test_resize_takes_the_centre_square(experiment_of, folder_of):
    folder = folder_of({"a/x.png": _encoded(NOISE), "b/y.png": _encoded(NOISE)})
    rows, _ = _ingest(_folder_experiment(experiment_of, folder, size=10))
    assert decode(rows[0]["image"]["bytes"], max_pixels=1000).shape == (10, 10, 3)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"format": "folder", "path": "absent"}, "absent: there is no such folder"),
        ({"format": "parquet", "path": "absent.parquet"}, "absent.parquet"),
        ({"format": "cifar10", "path": "absent"}, "absent"),
    ],
)
def test_refuses_sources_that_are_not_there(experiment_of, tmp_path, source, message):
    source = {**source, "path": str(tmp_path / source["path"])}
    with pytest.raises(InputError, match=message):
        _ingest(experiment_of(ingest={"train": source, "test": source}))


def test_refuses_an_empty_folder(experiment_of, tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    with pytest.raises(InputError, match="the folder has no images"):
        _ingest(_folder_experiment(experiment_of, tmp_path / "images"))


def test_refuses_a_truncated_parquet_file_by_name(experiment_of, tmp_path):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"image": [{"bytes": b"x", "path": ""}], "label": [0]}), path)
    path.write_bytes(path.read_bytes()[:-5])
    source = {"format": "parquet", "path": str(path)}
    with pytest.raises(InputError, match=r"data\.parquet"):
        _ingest(experiment_of(ingest={"train": source, "test": source}))


def test_refuses_a_class_whose_name_is_no_text(experiment_of, folder_of, tmp_path):
    folder = folder_of({"dog/a.png": _encoded(NOISE), "\udcff/b.png": _encoded(NOISE)})
    with pytest.raises(InputError, match=r"the name of a class is not UTF-8; got '\\udcff'$"):
        plan(_folder_experiment(experiment_of, folder))
    rows = pa.table({"image": [{"bytes": _encoded(NOISE), "path": None}], "label": [0]})
    features = {"label": {"_type": "ClassLabel", "names": ["\ud83d", "dog"]}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(rows.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    source = {"format": "parquet", "path": str(tmp_path / "a.parquet")}
    with pytest.raises(InputError, match=r"the name of a class is not UTF-8; got '\\ud83d'$"):
        plan(experiment_of(ingest={"train": source, "test": source}))


def test_roundtrip_any_text_is_the_name_of_a_class(experiment_of, folder_of):
    names = ["$5-$10", "Ba$$in", "a\nb\x1b[2J", "\u202eb", "[/b] |`*<i>", "猫 🦊"]
    folder = folder_of({f"{name}/a.png": _encoded(NOISE) for name in names[:4]})
    experiment = _folder_experiment(experiment_of, folder)
    task = plan(experiment).make_task()
    assert task.class_names == names[:4]
    rows, quarantine = _ingest(experiment)
    assert not quarantine and [row["id"] for row in rows] == [f"{name}/a.png" for name in names[:4]]
    assert class_names_of(image_schema("image", names)) == names

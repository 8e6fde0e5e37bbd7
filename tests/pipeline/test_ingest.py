"""The work of one ingest shard, without Ray: what is broken is set aside with its reason, the rest goes through."""

import ctypes
import io
import json
import shutil
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stl_ray.errors import InputError
from stl_ray.images import class_names_of, decode, image_schema, pixel_digest
from stl_ray.images.readers import LeftOut, open_reader
from stl_ray.images.readers.folder import FolderReader
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


def _splits_experiment(experiment_of, folder):
    """Of a folder and its copy, one for each split."""
    shutil.copytree(folder, folder.parent / "copy")
    paths = {"train": folder, "test": folder.parent / "copy"}
    return experiment_of(ingest={split: {"format": "folder", "path": str(path)} for split, path in paths.items()})


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
        plan(_splits_experiment(experiment_of, folder))
    rows = pa.table({"image": [{"bytes": _encoded(NOISE), "path": None}], "label": [0]})
    features = {"label": {"_type": "ClassLabel", "names": ["\ud83d", "dog"]}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    sources = {}
    for split in ("train", "test"):
        pq.write_table(rows.replace_schema_metadata(metadata), tmp_path / f"{split}.parquet")
        sources[split] = {"format": "parquet", "path": str(tmp_path / f"{split}.parquet")}
    with pytest.raises(InputError, match=r"the name of a class is not UTF-8; got '\\ud83d'$"):
        plan(experiment_of(ingest=sources))


def test_roundtrip_any_text_is_the_name_of_a_class(experiment_of, folder_of):
    names = ["$5-$10", "Ba$$in", "a\nb\x1b[2J", "\u202eb", "[/b] |`*<i>", "猫 🦊"]
    folder = folder_of({f"{name}/a.png": _encoded(NOISE) for name in names[:4]})
    experiment = _splits_experiment(experiment_of, folder)
    task = plan(experiment).make_task()
    assert task.class_names == names[:4]
    rows, quarantine = _ingest(experiment)
    assert not quarantine and [row["id"] for row in rows] == [f"{name}/a.png" for name in names[:4]]
    assert class_names_of(image_schema("image", names)) == names


@pytest.mark.parametrize("codec", ["png", "keep"])
@pytest.mark.parametrize("size", [None, 16])
def test_identity_the_digest_is_of_the_stored_pixels_whatever_the_file(experiment_of, folder_of, codec, size):
    files = {
        "a/1.png": _encoded(NOISE),
        "a/2.bmp": _encoded(NOISE, "BMP"),
        "a/3.png": _encoded(np.dstack([NOISE, GREY])),
        "b/4.jpg": _encoded(NOISE, "JPEG"),
        "b/5.png": _encoded(np.array(Image.open(io.BytesIO(_encoded(NOISE, "JPEG"))))),
    }
    rows, _ = _ingest(_folder_experiment(experiment_of, folder_of(files), codec=codec, size=size))
    for row in rows:
        assert row["pixel_digest"] == pixel_digest(decode(row["image"]["bytes"], max_pixels=1000))
    digests = {row["id"]: row["pixel_digest"] for row in rows}
    assert digests["a/1.png"] == digests["a/2.bmp"] == digests["a/3.png"]
    assert digests["b/4.jpg"] == digests["b/5.png"] != digests["a/1.png"]


def _parquet(file, count):
    image = {"bytes": _encoded(NOISE), "path": None}
    pq.write_table(pa.table({"image": [image] * count, "label": [number % 2 for number in range(count)]}), file)


def _planned(experiment):
    return [sum(shard.rows for shard in run.plan) for run in plan(experiment).runs]


def test_one_folder_of_both_splits_gives_each_its_own(experiment_of, tmp_path):
    for name, count in (("train-00000-of-00001", 5), ("test-00000-of-00001", 3)):
        _parquet(tmp_path / f"{name}.parquet", count)
    source = {"format": "parquet", "path": str(tmp_path)}
    job = plan(experiment_of(ingest={"train": source, "test": source}))
    assert [sum(shard.rows for shard in run.plan) for run in job.runs] == [5, 3]
    assert [LeftOut.of(run.notes()).text() for run in job.runs] == ["1 file of test", "1 file of train"]


def _of(form, train, test):
    return {split: {"format": form, "path": str(path)} for split, path in (("train", train), ("test", test))}


def test_refuses_files_that_both_splits_read(experiment_of, tmp_path):
    for name in ("a", "b", "c"):
        _parquet(tmp_path / f"{name}.parquet", 2)
    both = (
        "ingest.train.path, ingest.test.path: the splits overlap; expected files of its own for each, such as those of "
    )
    for train, test, shared in (
        (tmp_path, tmp_path, "3 files that both read: {0}/a.parquet, {0}/b.parquet, {0}/c.parquet"),
        (tmp_path / "*.parquet", tmp_path / "b.parquet", "1 file that both read: {0}/b.parquet"),
    ):
        with pytest.raises(InputError) as error:
            plan(experiment_of(ingest=_of("parquet", train, test)))
        patterns = "{0}/train-*.parquet and {0}/test-*.parquet; got "
        assert str(error.value) == both + (patterns + shared).format(tmp_path)
    assert _planned(experiment_of(ingest=_of("parquet", tmp_path / "[ab].parquet", tmp_path / "c.parquet"))) == [4, 2]


def test_refuses_folders_that_overlap_before_it_lists_them(experiment_of, folder_of, monkeypatch):
    folder = folder_of({f"{name}.png": _encoded(NOISE) for name in ("x/a/1", "x/b/2", "y/a/1", "y/b/2")})
    assert _planned(experiment_of(ingest=_of("folder", folder / "x", folder / "y"))) == [2, 2]
    monkeypatch.setattr(FolderReader, "plan", None)
    for train, test in ((folder / "x", folder / "x"), (folder, folder / "x"), (folder / "x", folder)):
        with pytest.raises(InputError, match=f"neither in the other; got 1 folder that both read: {folder}/x$"):
            plan(experiment_of(ingest=_of("folder", train, test)))


def test_sources_that_split_themselves_may_be_given_for_both(experiment_of, tmp_path):
    assert _planned(experiment_of()) == [20, 20]
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (tmp_path / f"{name}.bin").write_bytes(bytes(3073))
    assert _planned(experiment_of(ingest=_of("cifar10", tmp_path, tmp_path))) == [5, 1]


@pytest.mark.parametrize("split", ["train", "test"])
def test_one_split_alone_is_ingested(experiment_of, folder_of, split):
    folder = folder_of({"a/0.png": _encoded(NOISE), "b/1.png": _encoded(GREY)})
    experiment = experiment_of(ingest={split: {"format": "folder", "path": str(folder)}})
    job = plan(experiment)
    (planned,) = job.runs
    (shard,) = planned.plan
    assert planned.folder == f"ingest/{split}"
    assert job.make_task()(planned.folder, shard).table.num_rows == 2

"""What a source holds beside its images is counted by extension, whatever the format."""

import io
import json
import os
import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stl_ray.config import Source
from stl_ray.images import encode_png, image_schema
from stl_ray.images.codec import EXTENSIONS
from stl_ray.images.readers import LeftOut, open_reader

IMAGE = encode_png(np.zeros((8, 8, 3), np.uint8))


def planned(form, path, limit=None):
    """What was left out, after its way through JSON, as the plan keeps it; and how many images were planned."""
    reader = open_reader(Source(format=form, path=str(path), limit=limit), split="train")
    images = sum(shard.rows for shard in reader.plan(4))
    record = json.loads(json.dumps(reader.left_out.record()))
    assert LeftOut.of(record).record() == record
    assert images == sum(shard.rows for shard in reader.plan(4)) and reader.left_out.record() == record
    return LeftOut.of(record), images


def filled(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(IMAGE)
    return folder


def test_identity_every_file_of_a_folder_is_an_image_or_counted(tmp_path):
    images = [f"{label}/{n}{kind}" for label in "ab" for n, kind in enumerate(sorted(EXTENSIONS))]
    others = ["a/notes.txt", "a/deep/Notes.TXT", "b/clip.MOV", "b/2.png.part", "b/README", "b/raw.tar.gz"]
    beside = ["3.jpg", "4.jpg", "labels.csv", "LICENSE"]
    hidden = [".cache/1.png", ".DS_Store", "a/.hidden.png", "b/.git/1.png", "b/Thumbs.db", "desktop.ini"]
    filled(tmp_path, [*images, *others, *beside, *hidden])
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "b" / "gone.png").symlink_to("nowhere")  # an image without bytes
    left_out, count = planned("folder", tmp_path)
    assert count == len(images) + 1
    assert left_out.record() == {
        "files": {".txt": 2, ".mov": 1, ".part": 1, "": 1, ".gz": 1},
        "beside": {".jpg": 2, ".csv": 1, "": 1},
        "hidden": len(hidden),
        "links": 2,
        "first_links": ["gone", "a/up"],
    }
    assert left_out.text() == (
        "2 .txt, 1 without extension, 1 .gz, 1 .mov, 1 .part, 2 .jpg beside the classes, "
        "1 without extension beside the classes, 1 .csv beside the classes, 6 hidden, 2 links (gone, a/up)"
    )


SYSTEM = [
    "@eaDir/x.jpg/SYNOPHOTO_THUMB_XL.jpg", ".@__thumb/1.png", "#recycle/1.png", "#snapshot/d/1.png", "@Recycle/1.png",
    "__MACOSX/._1.png", ".AppleDouble/1.png", "Network Trash Folder/1.png", ".Trash-1000/files/1.png",
    "$RECYCLE.BIN/S-1-5/1.png", "System Volume Information/1.png", "FOUND.000/1.png", "lost+found/1.png",
    "~snapshot/1.png", "@GMT-2024.01.01-00.00.00/1.png", ".ipynb_checkpoints/1-checkpoint.png",
    "Thumbs.db", "desktop.ini", ".DS_Store", "Icon\r",
]  # fmt: skip


def test_identity_what_systems_leave_is_no_class_and_no_image(tmp_path):
    images = ["a/1.png", "b/1.png", "recycled/1.png", "found/1.png", "snapshot/1.png"]  # these are classes
    filled(tmp_path, [*images, *SYSTEM, *(f"a/{name}" for name in SYSTEM)])
    reader = open_reader(Source(format="folder", path=str(tmp_path)), split="train")
    assert reader.class_names == ["a", "b", "found", "recycled", "snapshot"]
    assert sorted(path for shard in reader.plan(9) for path in shard.source["paths"]) == sorted(images)
    assert reader.left_out.record() == {"hidden": 2 * len(SYSTEM)}
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "x.tar", "w") as tar:
        for name in [*images, *SYSTEM]:
            tar.add(tmp_path / name, name)
    assert planned("tar", tmp_path / "tars") == (LeftOut(hidden=len(SYSTEM)), len(images))
    (tmp_path / "tars" / "@eaDir").mkdir()
    shutil.copy(tmp_path / "tars" / "x.tar", tmp_path / "tars" / "@eaDir")
    assert planned("tar", tmp_path / "tars" / "**" / "*.tar")[1] == len(images)


def test_identity_classes_without_images_are_named(tmp_path):
    filled(tmp_path, ["a/1.png", "owl/notes.txt"])
    (tmp_path / "elk").mkdir()
    left_out, images = planned("folder", tmp_path, limit=1)
    assert (images, left_out.empty_text()) == (1, "2 classes have no image (elk, owl)")
    assert LeftOut(empty=9, first_empty=list("abcdef")).empty_text() == "9 classes have no image (a, b, c, d, e, ...)"


def test_identity_nothing_is_said_where_nothing_is_left_out(tmp_path):
    left_out, _ = planned("folder", filled(tmp_path, ["a/1.png"]))
    assert (left_out.text(), left_out.record()) == ("", {})


def test_identity_a_listing_that_a_limit_ends_counts_at_least(tmp_path):
    names = ["a/1.png", "a/2.txt", "a/3.png", "a/4.txt", "a/5.png", "b/1.png", "b/2.txt"]
    filled(tmp_path, names)
    assert planned("folder", tmp_path, limit=2)[0].text() == "at least 2 .txt"
    assert planned("folder", tmp_path, limit=4)[0].text() == "3 .txt"


@pytest.mark.parametrize("labelled", [False, True])
def test_identity_every_member_of_a_tar_and_file_beside_it_is_taken_or_counted(tmp_path, labelled):
    members = ["a/1.png", "a/1.txt", "b/2.jpg", "b/._2.jpg", "b/2.mp3"] + ["a/1.cls", "b/2.cls"] * labelled
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in sorted(members, key=lambda name: name.replace("._", "")):
            info = tarfile.TarInfo(name)
            data = b"a caption" if name.endswith("txt") else b"0"
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    filled(tmp_path, ["readme.md", "deep/y.tar", ".hidden"])
    (tmp_path / "classes.txt").write_text("first\nsecond")
    left_out, count = planned("tar", tmp_path)
    assert count == 2
    # Where there are no labels, nobody reads classes.txt.
    assert left_out.record() == {
        "files": {".txt": 2 - labelled, ".mp3": 1, ".md": 1},
        "folders": 1,
        "hidden": 2,
    }
    assert planned("tar", tmp_path / "x.tar")[0].record() == {"files": {".txt": 1, ".mp3": 1}, "hidden": 1}


def test_identity_what_lies_beside_parquet_files_is_counted(tmp_path):
    row = {"id": "1", "image": {"bytes": IMAGE, "path": None}, "label": 0}
    pq.write_table(pa.Table.from_pylist([row], schema=image_schema("image", ["a"])), tmp_path / "x.parquet")
    filled(tmp_path, ["x.json", "deep/y.parquet", "deeper/z", ".hidden/x"])
    (tmp_path / "again").symlink_to(".")
    expected = {"files": {".json": 1}, "folders": 2, "hidden": 1, "links": 1, "first_links": ["again"]}
    assert planned("parquet", tmp_path)[0].record() == expected
    assert planned("parquet", tmp_path)[0].text() == "1 .json, 2 sub-folders, 1 hidden, 1 link (again)"
    assert planned("parquet", tmp_path / "*.parquet")[0].record() == {}


def test_invariant_many_kinds_are_few_in_the_record_and_the_text(tmp_path):
    left_out = LeftOut()
    left_out.add_names(f"scan.{n:05d}" for n in range(1000))
    assert len(left_out.record()["files"]) == 51 and sum(left_out.files.values()) == 1000
    assert left_out.text() == "950 other, 1 .00000, 1 .00001, 1 .00002, 1 .00003, 46 of 46 other kinds"


def test_invariant_any_name_can_be_printed_and_kept(tmp_path):
    filled(tmp_path, ["a/1.png", "a/line\n.b\nc"])
    for name in (b"a/\xff.\xfe", b"a/gone\xff"):
        (tmp_path / os.fsdecode(name)).symlink_to("nowhere")
    with open(os.fsencode(tmp_path) + b"/a/x.\xfd", "wb"):  # noqa: PTH123 - a name that pathlib cannot type
        pass
    left_out, _ = planned("folder", tmp_path)
    assert left_out.text().isprintable() and left_out.text().encode()
    assert left_out.links == 2 and sum(left_out.files.values()) == 2

"""Splits by names: Hugging Face's convention where it is unambiguous, and patterns to write where it is not."""

import io
import os
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stl_ray.config import Source
from stl_ray.errors import InputError
from stl_ray.images import encode_png
from stl_ray.images.readers import LeftOut, open_reader
from stl_ray.images.readers.matching import home
from stl_ray.images.readers.splits import are_splits, choose, files_of, keywords_in, splits_of
from stl_ray.store import Storage

HERE = Storage.open("/data")
TRAIN, VALIDATION, TEST = "train", "validation", "test"


def shards(head, count, tail=".parquet"):
    return [f"{head}{number:05d}-of-{count:05d}{tail}" for number in range(count)]


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("train-00000-of-00005.parquet", {"train"}),
        ("imagenet-train-000000.tar", {"train"}),
        ("train.parquet", {"train"}),
        ("train", {"train"}),
        ("val2017", {"val"}),
        ("2017val", {"val"}),
        ("my dev set.tar", {"dev"}),
        ("data/test.parquet", {"test"}),
        ("validation/0.tar", {"validation"}),
        ("a_testing_b", {"testing"}),
        ("eval.tar", {"eval"}),
        ("x-evaluation", {"evaluation"}),
        ("valid_1", {"valid"}),
        ("training.0001.tar", {"training"}),
        ("Train-0.parquet", {"train"}),
        ("train_test.parquet", {"train", "test"}),
        ("trainval.tar", set()),
        ("constrain-0.tar", set()),
        ("latest.parquet", set()),
        ("tested-0.parquet", set()),
        ("invalid.tar", set()),
        ("evaluate.tar", set()),
        ("devices.tar", set()),
        ("trains(1).tar", set()),
        ("train(1).tar", set()),
        ("tränen-test\u00e4.tar", set()),
        ("", set()),
    ],
)
def test_identity_keywords_stand_between_separators(name, keywords):
    assert keywords_in(name) == keywords


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ([], []),
        (["a.tar", "b.tar"], [None, None]),
        (["train-0.tar", "train-1.tar"], [None, None]),
        (["train-0.tar", "test-0.tar", "dev.tar"], [TRAIN, TEST, VALIDATION]),
        (["eval-0.tar", "test-0.tar", "training-0.tar"], [TEST, TEST, TRAIN]),
        (["my-test-set-train-0.tar", "my-test-set-val-0.tar"], [TRAIN, VALIDATION]),
        (["my-test-set-0.tar", "my-test-set-train-0.tar"], [None, TRAIN]),
        (["train.tar", "test.tar", "train_test.tar"], [TRAIN, TEST, None]),
        (["train/0.tar", "test/0.tar"], [TRAIN, TEST]),
        (["train/test-0.tar", "train/val-0.tar"], [TEST, VALIDATION]),
    ],
)
def test_identity_a_split_is_what_tells_names_apart(names, splits):
    assert splits_of(names) == splits


@pytest.mark.parametrize(
    "names",
    [
        [*shards("train-", 3), *shards("test-", 1)],
        [*shards("data-train-", 2, ".tar"), *shards("data-val-", 2, ".tar"), *shards("data-test-", 1, ".tar")],
        ["train.parquet", "validation.parquet", "eval_0.parquet", "eval_1.parquet"],
        ["training 1.tar", "testing 1.tar"],
        ["train/0.tar", "train/1.tar", "dev/0.tar"],
        ["images-train2017.tar", "images-val2017.tar"],
        ["x.train.parquet", "x.test.parquet"],
    ],
)
def test_agrees_with_hugging_face_where_every_name_carries_one_split(names, tmp_path):
    from datasets.data_files import DataFilesDict, get_data_patterns

    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = DataFilesDict.from_patterns(get_data_patterns(str(tmp_path)), base_path=str(tmp_path))
    theirs = {os.path.relpath(file, tmp_path): str(split) for split, files in found.items() for file in files}
    assert theirs == dict(zip(names, splits_of(names), strict=True))


@pytest.mark.parametrize(
    ("split", "names", "chosen", "passed_over"),
    [
        (TRAIN, ["a.tar", "b.tar"], ["a.tar", "b.tar"], {}),
        (TEST, ["train-0.tar", "train-1.tar"], ["train-0.tar", "train-1.tar"], {}),
        (TEST, ["latest.tar", "constrain.tar"], ["latest.tar", "constrain.tar"], {}),
        (TRAIN, ["dev.tar", "test-0.tar", "test-1.tar", "train-0.tar"], ["train-0.tar"], {VALIDATION: 1, TEST: 2}),
        (TEST, ["eval-0.tar", "test-0.tar", "train-0.tar"], ["eval-0.tar", "test-0.tar"], {TRAIN: 1}),
        (TRAIN, ["test-cats-train.tar", "test-cats-val.tar"], ["test-cats-train.tar"], {VALIDATION: 1}),
        (TEST, [], [], {}),
    ],
)
def test_identity_the_files_of_a_split(split, names, chosen, passed_over):
    assert choose(split, names, HERE) == (chosen, Counter(passed_over))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            [*shards("train-", 5), *shards("validation-", 1)],
            "/data: no file is of the split test by its name; expected a file or pattern, such as "
            "/data/train-*.parquet (5 files), /data/validation-*.parquet (1 file), /data/*.parquet for all 6",
        ),
        (
            ["extra.tar", "more.tar", "train_0.tar", "test_0.tar"],
            "/data: the names of 2 of 4 files do not tell of which split they are; expected a file or pattern, such as "
            "/data/train_*.tar (1 file), /data/test_*.tar (1 file), /data/*.tar for all 4; got extra.tar, more.tar",
        ),
        (["car.tar", "train.tar", "bus.tar", "ship.tar"], r"/data/train*.tar (1 file), /data/*.tar for all 4"),
        (["car.tar", "train.tar", "bus.tar", "ship.tar", "van.tar"], r"got car.tar, bus.tar, ship.tar, ..."),
        (["a-train-0.tar", "b-train-0.tar", "c.tar"], "/data/*train*.tar (2 files)"),
        # No pattern tells `train` from `trainers`.
        (["a-train-0.tar", "b-training.tar", "trainers.tar"], "a folder for the 2 files of train (a-train-0.tar, "),
        (["train.tar", "train_test.tar", "test.tar"], "1 of 3 files do not tell"),
    ],
)
def test_refuses_what_names_do_not_settle_with_the_patterns_to_write(names, message):
    with pytest.raises(InputError) as error:
        choose(TEST, names, HERE)
    assert message in str(error.value)


def test_invariant_patterns_that_are_named_mean_these_files(tmp_path):
    for name in [*shards("x-train-", 3), *shards("x-dev-", 2), "y-valid-1.parquet"]:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError) as error:
        files_of(TEST, Storage.open(str(tmp_path)), (".parquet",))
    patterns = [word for word in str(error.value).replace(",", " ").split() if "*" in word]
    files = [files_of(TEST, Storage.open(pattern), (".parquet",)).paths for pattern in patterns]
    assert [len(paths) for paths in files] == [3, 6]
    assert "a folder for the 3 files of validation" in str(error.value)


@pytest.mark.parametrize(
    ("names", "are"),
    [
        (["train", "test"], True),
        (["train", "val", "test"], True),
        (["Train", "Test"], True),
        (["train2017", "val2017"], True),
        (["dev", "eval"], True),
        (["test", "eval"], True),
        (["train"], False),
        (["test-1", "test-2"], False),
        (["car", "train", "bus"], False),
        (["car", "train", "test tube"], False),
        (["valid", "invalid"], False),
        (["dog", "cat"], False),
        ([], False),
    ],
)
def test_identity_folders_that_are_splits(names, are):
    assert are_splits(names) == are


def test_identity_a_file_or_pattern_is_taken_as_it_is_and_a_folder_by_its_names(tmp_path):
    folder = tmp_path / "test.tar"  # a folder, whatever its name
    folder.mkdir()
    names = ["test-0.tar", "train-0.tar", "train-1.tar"]
    for name in names:
        (folder / name).write_bytes(b"x")

    def of(split, place):
        source = Storage.open(str(place))
        paths, passed_over = files_of(split, source, (".tar",))
        files = [Path(home(source, (".tar",)).at(path)) for path in paths]
        assert all(file.parent == folder for file in files)
        return [file.name for file in files], dict(passed_over)

    assert of(TRAIN, folder) == (names[1:], {TEST: 1})
    assert of(TEST, folder) == (names[:1], {TRAIN: 2})
    assert of(TEST, folder / "*.tar") == (names, {})
    assert of(TEST, folder / "train-*.tar") == (names[1:], {})
    assert of(TEST, folder / "train-0.tar") == (["train-0.tar"], {})
    assert of(TEST, tmp_path / "absent") == ([], {})


def test_invariant_every_file_is_taken_or_counted(tmp_path):
    names = [*shards("train-", 4), *shards("test-", 2), *shards("valid-", 3)]
    chosen = {split: choose(split, names, HERE) for split in (TRAIN, TEST)}
    for paths, passed_over in chosen.values():
        assert len(paths) + passed_over.total() == len(names)
    assert not set(chosen[TRAIN].paths) & set(chosen[TEST].paths)


def opened(form, place, split=TRAIN, limit=None):
    return open_reader(Source(format=form, path=str(place), limit=limit), split=split)


def rows(reader):
    return sum(shard.rows for shard in reader.plan(4))


def test_identity_readers_take_their_split_of_a_folder_and_count_the_others(tmp_path):
    image = encode_png(np.zeros((8, 8, 3), np.uint8))
    for head, count in (("train", 5), ("test", 2)):
        table = pa.table({"image": [image] * count, "label": [0] * count})
        pq.write_table(table, tmp_path / f"{head}-00000-of-00001.parquet")
        with tarfile.open(tmp_path / f"x-{head}-000.tar", "w") as tar:
            for n in range(count):
                info = tarfile.TarInfo(f"class/{n}.png")
                info.size = len(image)
                tar.addfile(info, io.BytesIO(image))
    for form in ("parquet", "tar"):
        readers = {split: opened(form, tmp_path, split) for split in (TRAIN, TEST)}
        assert {split: rows(reader) for split, reader in readers.items()} == {TRAIN: 5, TEST: 2}
        assert readers[TRAIN].left_out.record()["splits"] == {TEST: 1}
        assert LeftOut.of(readers[TEST].left_out.record()).text().endswith(", 1 file of train")
        assert rows(opened(form, tmp_path / f"*.{form}")) == 7


def filled(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    return folder


@pytest.mark.parametrize("others", [(), ("meta/list.txt", ".cache/1.png"), ("test/b/2.png",)])
def test_refuses_a_folder_of_splits_with_the_paths_to_write(tmp_path, others):
    folder = filled(tmp_path, "train/a/1.png", "val/a/1.png", *others)
    with pytest.raises(InputError, match="the sub-folders are splits, not classes") as error:
        opened("folder", folder).class_names  # noqa: B018
    splits = ("test", "train", "val") if others[:1] == ("test/b/2.png",) else ("train", "val")
    assert error.value.expected == f"the path of one split: {' or '.join(str(folder / name) for name in splits)}"


@pytest.mark.parametrize(
    "names", [("bus", "car", "train"), ("bus", "test tube", "train"), ("train",), ("test1", "test2")]
)
def test_identity_a_class_may_be_called_train(tmp_path, names):
    assert opened("folder", filled(tmp_path, *(f"{name}/1.png" for name in names))).class_names == sorted(names)


def tarred(file, *names):
    with tarfile.open(file, "w") as tar:
        for name in names:
            data = encode_png(np.zeros((8, 8, 3), np.uint8)) if name.endswith("png") else b"0"
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file


INSIDE = {
    ("train/n01/1.png", "test/n01/2.png"): "test, train",
    ("./data/train/n01/1.png", "./data/val/n02/2.png"): "data/train, data/val",
    ("n01/train/1.png", "n01/test/2.png", "n02/3.png"): "n01/test, n01/train",
    ("a/n01/Train_2/x/1.png", "a/n01/Test_2/y/2.png", "b/3.png"): "a/n01/Test_2, a/n01/Train_2",
    # Others beside, which are no splits either way; and images in no folder.
    ("train/n01/1.png", "test/n01/2.png", "figures/3.png", "4.png"): "test, train",
}


@pytest.mark.parametrize("names", INSIDE)
@pytest.mark.parametrize("labels", [False, True])
def test_refuses_tars_that_hold_several_splits_in_folders(tmp_path, names, labels):
    beside = [name.replace(".png", ".cls") for name in names] if labels else []
    tarred(tmp_path / "all.tar", *names, *beside)
    for number, name in enumerate(names):
        tarred(tmp_path / f"part-{number}.tar", name, *beside[number : number + 1])
    for place in ("all.tar", "part-*.tar"):
        with pytest.raises(InputError, match=r"are splits, not classes; expected .* tars of their own") as error:
            next(opened("tar", tmp_path / place).plan(10))
        assert error.value.got == INSIDE[names]


@pytest.mark.parametrize(
    "names",
    [
        ("n01/train/1.png", "n01/test/2.png"),
        ("n01/x/train/1.png", "n01/x/test/2.png", "n01/x/other/3.png", "n02/4.png"),
        ("n01/1.png", "n01/train/1.png", "n01/val/2.png"),
    ],
)
@pytest.mark.parametrize("limit", [None, 1])
def test_refuses_a_folder_whose_classes_hold_several_splits(tmp_path, names, limit):
    folder = filled(tmp_path, *names)
    with pytest.raises(
        InputError, match="folders in a class are splits; expected the folder of one split, which"
    ) as error:
        next(opened("folder", folder, limit=limit).plan(10))
    assert "/train" in error.value.got


TELL_NOTHING = [
    ("train/n01/1.png", "train/n02/1.png"),
    ("n01/train/1.png", "n02/train/2.png"),
    ("n01/test_1/1.png", "n01/test_2/2.png"),
    ("n01/train/1.png", "n01/.test/2.png", "n01/test/notes.txt"),
]


@pytest.mark.parametrize(
    "names",
    [*TELL_NOTHING, ("v/bus/1.png", "v/train/2.png", "v/test tube/3.png"), ("n01/train_1.png", "n01/test_1.png")],
)
def test_identity_tars_whose_folders_tell_no_splits_apart_are_read_whole(tmp_path, names):
    images = [name for name in names if name.endswith("png") and "/." not in name]
    assert rows(opened("tar", tarred(tmp_path / "x.tar", *names))) == len(images)


@pytest.mark.parametrize("names", [*TELL_NOTHING, ("n01/train_1.png", "n01/test_1.png")])
def test_identity_classes_whose_folders_tell_no_splits_apart_are_read_whole(tmp_path, names):
    images = [name for name in names if name.endswith("png") and "/." not in name]
    assert rows(opened("folder", filled(tmp_path, *images))) == len(images)


def test_identity_with_a_limit_hidden_folders_are_no_splits(tmp_path):
    folder = filled(tmp_path, "n01/1.png", "n01/train/2.png", "n01/.test/3.png")
    assert rows(opened("folder", folder, limit=1)) == 1


def test_refuses_a_tar_whose_folders_are_splits(tmp_path):
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for name in ("x/train/1.png", "x/test/2.png"):
            tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(InputError, match=r"are splits, not classes; expected .*; got test, train"):
        opened("tar", tmp_path / "all.tar").class_names  # noqa: B018

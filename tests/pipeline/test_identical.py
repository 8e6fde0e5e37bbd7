"""Images that come twice are counted by the digests of their pixels."""

import pyarrow as pa
import pytest

from stl_ray.images import PIXEL_DIGEST, image_schema
from stl_ray.pipeline.identical import Identical, count_identical


@pytest.fixture
def split_of(experiment_of, finished_run):
    """Makes an ingested split of images with these contents, a part for each list; without digests where told so."""

    def make(split, *parts, digests=True):
        tables = [
            pa.Table.from_pylist(
                [
                    {"id": f"{split}/{n}/{row}", "label": 0, PIXEL_DIGEST: b"%16d" % value}
                    for row, value in enumerate(part)
                ],
                schema=image_schema("image", ["a"]),
            )
            for n, part in enumerate(parts)
        ]
        return finished_run(
            experiment_of(), f"ingest/{split}", *(t if digests else t.drop_columns([PIXEL_DIGEST]) for t in tables)
        )

    return make


def test_identity_counts_over_all_parts(split_of):
    train, test = split_of("train", [1, 2, 3, 3], [], [4, 1, 1]), split_of("test", [7, 4], [8, 1, 7, 1])
    assert count_identical(train, test) == Identical(
        in_both=3,
        first_ids=["test/0/1", "test/1/1", "test/1/3"],
        test=6,
        repeats_in_train=3,
        repeats_in_test=2,
    )


def test_identity_nothing_is_said_of_different_images(split_of):
    found = count_identical(split_of("train", [1, 2]), split_of("test", [3]))
    assert found == Identical(0, [], 1, 0, 0) and found.text() == ""


@pytest.mark.parametrize("old", ["train", "test"])
def test_identity_a_split_of_an_earlier_version_is_not_counted(split_of, old):
    train, test = (split_of(split, [1], digests=split != old) for split in ("train", "test"))
    assert count_identical(train, test) is None


def test_identity_the_remark(split_of):
    assert Identical(37, [f"cifar/{n}" for n in range(20)], 10_000, 0, 0).text() == (
        "37 of 10000 test images are also training images, pixel by pixel: cifar/0, cifar/1, cifar/2, ..."
    )
    assert Identical(1, ["a\nb"], 2, 3, 0).text() == (
        "1 of 2 test images are also training images, pixel by pixel: a\\nb; "
        "3 of train and 0 of test repeat an image of their split"
    )
    assert Identical(0, [], 2, 0, 5).text() == "0 of train and 5 of test repeat an image of their split"

"""Images that come twice, pixel by pixel, told by the digests that ingest stores: test images that are training images
too, and repeats within a split. A statement, not a refusal: CIFAR-10, for one, has known duplicates.

The digests of both splits are in memory as Arrow columns, 20 bytes an image.
"""

from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from stl_ray.images import PIXEL_DIGEST
from stl_ray.images.readers.examples import first_of
from stl_ray.images.readers.fetching import LISTINGS, in_order
from stl_ray.store import Dataset

NOT_COUNTED = "identical images are not counted: an earlier version ingested them, without digests of their pixels"

_KEPT = 20  # ids in the record


class Identical(NamedTuple):
    """Counts of identical images.

    Attributes:
        in_both: test images whose pixels a training image has too.
        first_ids: of the first of these.
        test: all test images.
        repeats_in_train: training images that are the same as one before them.
        repeats_in_test: test images that are the same as one before them.
    """

    in_both: int
    first_ids: list[str]
    test: int
    repeats_in_train: int
    repeats_in_test: int

    def record(self) -> dict[str, Any]:
        """The counts; JSON-able."""
        return self._asdict()

    def text(self) -> str:
        """The counts in words; empty where no image comes twice."""
        parts = []
        if self.in_both:
            parts += [
                f"{self.in_both} of {self.test} test images are also training images, pixel by pixel: "
                f"{first_of(self.first_ids)}"
            ]
        if self.repeats_in_train or self.repeats_in_test:
            parts += [
                f"{self.repeats_in_train} of train and {self.repeats_in_test} of test repeat an image of their split"
            ]
        return "; ".join(parts)


def count_identical(train: Dataset, test: Dataset) -> Identical | None:
    """Count the images of two splits that are the same; None where one was ingested without digests, by earlier versions.

    Raises:
        AuditError, StorageError: as `Dataset.columns`.
    """
    if not all(PIXEL_DIGEST in dataset.schema.names for dataset in (train, test)):
        return None
    training, tested = _columns(train, PIXEL_DIGEST)[PIXEL_DIGEST], _columns(test, PIXEL_DIGEST, "id")
    both = tested.filter(pc.is_in(tested[PIXEL_DIGEST], value_set=training))
    return Identical(
        in_both=both.num_rows,
        first_ids=both["id"][:_KEPT].to_pylist(),
        test=tested.num_rows,
        repeats_in_train=_repeats(training),
        repeats_in_test=_repeats(tested[PIXEL_DIGEST]),
    )


def _columns(dataset: Dataset, *names: str) -> pa.Table:
    """Some columns of all parts; in an object store each part costs round trips."""
    parts = in_order(lambda part: dataset.columns_of(part, *names), dataset.parts, threads=LISTINGS, ahead=LISTINGS)
    return pa.concat_tables(parts)


def _repeats(digests: pa.ChunkedArray) -> int:
    return len(digests) - int(pc.count_distinct(digests).as_py())

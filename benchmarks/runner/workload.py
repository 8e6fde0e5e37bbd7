"""A small experiment whose images are ingested and whose space is there: all that `stl-ray project` needs.

The images are the bundled photographs: at 32 pixels as the quickstart reads them, else larger crops of some of them.
Images come again under other ids once they are used up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.common.images import LMBDA, dictionary_for, load_images
from stl_ray.config import Experiment
from stl_ray.images import encode_png, image_schema, to_tensor, to_uint8
from stl_ray.images.readers.photographs import SIDE, PhotographsReader
from stl_ray.space import QuasiNaturalSpace
from stl_ray.store import Dataset, Layout, PlannedShard, Run, Storage

SPLIT: Literal["train"] = "train"
DEFENSE = "stl"

_SPACE = "space"

# Different images, at most: of the large ones a crop costs as much as the others.
_DIFFERENT = {SIDE: 1600}
_DIFFERENT_CROPS = 40


@dataclass(frozen=True)
class Workload:
    """Images of one size to project.

    Attributes:
        size: pixels.
        experiment: with one actor; its root holds the ingested images and the space.
        dictionary: in words.
    """

    size: int
    experiment: Experiment
    dictionary: str

    @property
    def clean(self) -> Dataset:
        """The images."""
        return Dataset.open(self.uri(self._layout.ingested(SPLIT)))

    @property
    def parts(self) -> list[str]:
        """The files of the images."""
        clean = self.clean
        return [clean.storage.at(part["file"]) for part in clean.parts]

    @property
    def space(self) -> str:
        """Where the space is."""
        return self.uri(_SPACE)

    @property
    def projected(self) -> str:
        """The folder of the run that projects the images, below the root."""
        return self._layout.projected(DEFENSE, SPLIT)

    def uri(self, path: str) -> str:
        """Of a path below the root."""
        return self._layout.uri(path)

    @property
    def _layout(self) -> Layout:
        return Layout(self.experiment.root)


def make_workload(root: Path, size: int, shards: int, shard_size: int, data: Path | None) -> Workload:
    """Ingest photographs, and save a space of one dictionary.

    Args:
        root: a folder that does not exist yet.
        size: pixels.
        shards: of the images.
        shard_size: images in each.
        data: where the authors' dictionaries are, if they are.
    """
    experiment = experiment_at(root)
    images = photographs(size, min(shards * shard_size, _DIFFERENT.get(size, _DIFFERENT_CROPS)))
    dictionary, source = dictionary_for(size, data, None, to_tensor(images[:_DIFFERENT_CROPS]))
    QuasiNaturalSpace.from_dictionary(dictionary, LMBDA).save(str(root / _SPACE))
    ingest(root, [encode_png(image) for image in images], shards, shard_size)
    return Workload(size, experiment, source)


def experiment_at(root: Path) -> Experiment:
    """One defense, one actor, one CPU."""
    photographs = {"format": "photographs"}
    values = {
        "name": "runner",
        "root": str(root),
        "spaces": [{"name": "one", "load": str(root / _SPACE)}],
        "defenses": [{"name": DEFENSE, "defense": "stl"}],
        "ingest": {"train": photographs, "test": photographs},
        "ray": {"actors": 1},
    }
    return Experiment.model_validate(values, strict=False)


def photographs(size: int, count: int) -> list[NDArray[np.uint8]]:
    """`count` different crops, (size, size, 3) uint8 each."""
    if size == SIDE:
        images = PhotographsReader(SPLIT).read({"start": 0, "stop": count})
        return [image.data for image in images if isinstance(image.data, np.ndarray)]
    # Every second image of these is clean.
    return list(to_uint8(load_images(size, 2 * count, None).pixels[::2]))


def ingest(root: Path, images: Sequence[bytes], shards: int, shard_size: int) -> None:
    """Publish encoded images as a finished run, again and again under other ids until the shards are full."""
    folder = Layout(str(root)).ingested(SPLIT)
    run = Run(Storage.open(str(root)).below(folder), *folder.split("/"))
    plan = [PlannedShard(number=n, source={}, rows=shard_size, digest=str(n)) for n in range(shards)]
    run.start(plan, identity={}, environment={})
    rows = (
        {"id": f"{number:06d}", "image": {"bytes": data, "path": None}, "label": -1}
        for number, data in enumerate(cycle(images))
    )
    for shard in plan:
        table = pa.Table.from_pylist(list(islice(rows, shard_size)), schema=image_schema("image", None))
        run.publish(shard, table, [], seconds=0, attempt=1, environment={})
    run.finish(max_quarantined=0)

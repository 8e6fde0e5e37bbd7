"""A defense of a block on one set of images: what the runs of `evaluate` are of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stl_ray.config import Experiment
from stl_ray.evaluation import TABLES_VERSION
from stl_ray.pipeline.batches import class_names
from stl_ray.pipeline.defended import Block, load_blocks
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.store import Dataset, Layout


@dataclass(frozen=True)
class Cell:
    """A defense of a block, and a set of images in front of it.

    Attributes:
        block: of the classifier.
        defense: its name.
        attack: name of the set, or `clean`.
        images: the set.
    """

    block: Block
    defense: str
    attack: str
    images: Dataset

    def identity(self, clean: Dataset) -> dict[str, Any]:
        """Whatever can change a row, JSON-able.

        Args:
            clean: the images that the set was made from.
        """
        made_of = self.block.made_of(self.defense)
        return {**made_of, "input": self.images.digest, "clean": clean.digest, "tables": TABLES_VERSION}


def clean_images(experiment: Experiment) -> Dataset:
    """The finished clean test images."""
    return dataset_of(experiment.root, Layout(experiment.root).ingested("test"))


def cells_of_blocks(
    experiment: Experiment, clean: Dataset, device: str, cells_of: Callable[[Experiment, Block], Mapping[str, Cell]]
) -> dict[str, Cell]:
    """By folder, the cells of every block.

    Args:
        experiment: of the blocks.
        clean: its clean test images.
        device: to load the blocks to.
        cells_of: by folder, those of one block.
    """
    blocks = load_blocks(experiment, class_names(clean), device).values()
    return {folder: cell for block in blocks for folder, cell in cells_of(experiment, block).items()}

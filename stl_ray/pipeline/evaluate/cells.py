"""A defense of a block on one set of images: what the runs of `evaluate` are of."""

from dataclasses import dataclass
from typing import Any

from stl_ray.evaluation import TABLES_VERSION
from stl_ray.pipeline.defended import Block
from stl_ray.store import Dataset


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

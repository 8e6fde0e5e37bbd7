"""What `stl_ray.attack` returns: adversarial images as stored, with their measurements."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from torch import Tensor

from stl_ray.evaluation import attack_summaries
from stl_ray.evaluation.batches import Pixels
from stl_ray.images import to_tensor
from stl_ray.report.attacks import attack_blocks
from stl_ray.report.blocks import Block, Text
from stl_ray.report.page import fragment
from stl_ray.report.records import AttackSummary
from stl_ray.report.terminal import blocks_text

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class AdversarialSet:
    """The images of one attack at one budget.

    Attributes:
        name: of the set.
        pixels: N images in the order of the clean ones, (H, W, 3): uint8, or float32 in [0, 1] where they are stored exactly.
        table: a row for each image: `id`, `label`, `attack`, `success` (right when clean, wrong when attacked), `status`,
            `dissimilarity`, `dissimilarity_standardized`, `l2`, `linf` (of [0, 1] pixels), `queries`, `source_pred`.
    """

    name: str
    pixels: list[Pixels]
    table: pa.Table

    @property
    def images(self) -> Tensor:
        """(N, 3, H, W) float32 in [0, 1].

        Raises:
            TensorError: they have several sizes; `pixels` has them one by one.
        """
        return to_tensor(self.pixels)


@dataclass(frozen=True, repr=False)
class Adversarial(Mapping[str, AdversarialSet]):
    """Adversarial sets by name; prints as a table of what the attacks did.

    Attributes:
        sets: by name, in the order of the attacks.
        remarks: on the images and the model.
    """

    sets: dict[str, AdversarialSet]
    remarks: tuple[str, ...]

    def __getitem__(self, name: str) -> AdversarialSet:
        return self.sets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sets)

    def __len__(self) -> int:
        return len(self.sets)

    @cached_property
    def summaries(self) -> dict[str, dict[str, Any]]:
        """By set: images, statuses, successes, distances (`attack_summaries`)."""
        return attack_summaries({name: item.table for name, item in self.sets.items()})

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each image of each set; columns as of `AdversarialSet.table`."""
        frame: pd.DataFrame = pa.concat_tables(item.table for item in self.sets.values()).to_pandas()
        return frame

    def __repr__(self) -> str:
        return blocks_text(self._blocks())

    def _repr_html_(self) -> str:
        return fragment(self._blocks())

    def _blocks(self) -> list[Block]:
        records = {name: AttackSummary.model_validate(summary) for name, summary in self.summaries.items()}
        return [*(Text(remark, kind="caveat") for remark in self.remarks), *attack_blocks(records)]

"""Bit-depth reduction. Source: Guo et al. 2018, section 4, at 3 bits; Xu et al. 2018, section III-A.

Three formulas are in use, for d bits:

guo       round(x 2^d) / 2^d: 2^d + 1 levels, black and white among them; Guo et al.'s code, and so their figures
xu        round(x (2^d - 1)) / (2^d - 1): 2^d levels, black and white among them; Xu et al.'s code
athalye   the lower bits of the stored value set to zero: 2^d levels, none of them white; Athalye et al. 2018 against Guo et al.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.defenses.base import Transformation
from stl_ray.defenses.options import DefenseOptions
from stl_ray.defenses.purified import Purified

Formula = Literal["guo", "xu", "athalye"]


class BitDepthOptions(DefenseOptions):
    """The options of bit_depth."""

    bits: int = Field(
        3, ge=1, le=8, description="of a channel; Guo et al. have 3, Xu et al. 5 for CIFAR-10 and ImageNet"
    )
    formula: Formula = Field(
        "guo",
        description="guo: round(x 2^d) / 2^d; xu: round(x (2^d - 1)) / (2^d - 1); athalye: lower bits set to zero",
    )


@dataclass(frozen=True)
class BitDepth(Transformation):
    """Rounds every value to a few levels; its Jacobian is zero almost everywhere.

    Args:
        bits: 1 to 8.
        formula: of the levels, as above.
    """

    bits: int
    formula: Formula
    name = "bit_depth"

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, "bits": self.bits, "formula": self.formula}

    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """See `Transformation.purify`."""
        if self.formula == "athalye":
            step = 2 ** (8 - self.bits)
            return Purified.without_solver(_over((255 * images).round().div(step).floor() * step, 255))
        most = 2**self.bits - (self.formula == "xu")
        return Purified.without_solver(_over((images * most).round(), most))


def _over(levels: Tensor, most: int) -> Tensor:
    # The divisor lives on the device: by a host scalar, CUDA multiplies with the reciprocal, which rounds differently.
    return levels / torch.full((), most, dtype=levels.dtype, device=levels.device)

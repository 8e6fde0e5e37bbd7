"""Image quilting: an image made anew of patches of training images.

Source: Guo et al. 2018, section 4.3, after Efros and Freeman 2001: every 5 x 5 patch of a grid with overlap 2 is replaced
by one of its nearest patches in a library, and neighbours are joined along a seam. What their published code does is the
default: the nearest patch, and the seam of `quilting_seams` that binds nothing. Other than there, the search is exact
(theirs: `search: faiss`), and patches cover the whole image (theirs: `border: reference`, which leaves the last rows and
columns black: at 224 px 3 of them, as many at 32).

Athalye et al. 2018 attacked another algorithm: 10 neighbours, and seams by dynamic programming.

`exclude` changes nothing: a training image finds patches of its own in the library, as in the published code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.defenses.base import Transformation
from stl_ray.defenses.fitted import FittedOptions
from stl_ray.defenses.purified import Purified
from stl_ray.defenses.quilting_index import faiss
from stl_ray.defenses.quilting_library import LibraryRecipe, PatchLibrary
from stl_ray.defenses.quilting_seams import SIDE, Seam, cut, reference
from stl_ray.defenses.quilting_stitching import STRIDE, cut_out, stitch
from stl_ray.errors import TensorError
from stl_ray.images import from_uint8, quantize

SEAMS: dict[str, Seam] = {"reference": reference, "cut": cut}


class QuiltingOptions(FittedOptions):
    """The options of quilting."""

    patches: int = Field(
        1_000_000, ge=1, le=2**31 - 1, description="patches of the library, drawn of all training images"
    )
    search: Literal["exact", "faiss"] = Field(
        "exact",
        description="for the nearest patches: exact; or approximate as by the published code, by the package faiss",
    )
    neighbours: int = Field(
        1, ge=1, description="a patch becomes one of so many nearest, at random (Athalye et al. 2018: 10)"
    )
    seam: Literal["reference", "cut"] = Field(
        "reference", description="as the published code joins patches, which pastes them; or along minimum cuts"
    )
    border: Literal["cover", "reference"] = Field(
        "cover",
        description="cover the whole image; or leave the last rows and columns black as the published code does",
    )

    @property
    def recipe(self) -> LibraryRecipe:
        """The library."""
        return LibraryRecipe(patches=self.patches, search=self.search)


@dataclass(frozen=True)
class Quilting(Transformation):
    """Replaces every patch by a near one of a library.

    Args:
        library: of patches.
        options: how images are made of them.
    """

    library: PatchLibrary
    options: QuiltingOptions
    name = "quilting"  # no gradient but BPDA: which patch is nearest is constant almost everywhere

    @property
    def randomised(self) -> bool:  # type: ignore[override]  # by the options
        """Whether there is a choice among neighbours."""
        return self.options.neighbours > 1

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        options = self.options
        return {
            "defense": self.name,
            "library": self.library.digest,
            "faiss": None if self.library.index is None else faiss().__version__,
            "neighbours": options.neighbours,
            "seam": options.seam,
            "border": options.border,
        }

    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """See `Transformation.purify`.

        Raises:
            TensorError: also if an image is not larger than a patch.
        """
        height, width = images.shape[-2:]
        if min(height, width) <= SIDE:
            raise TensorError("images too small to quilt", expected=f"sides over {SIDE}", got=f"{height} x {width}")
        levels = (quantize(images) * 255).round()
        if self.options.border == "cover":
            beyond = (0, -(width - SIDE) % STRIDE, 0, -(height - SIDE) % STRIDE)
            levels = torch.nn.functional.pad(levels, beyond, mode="replicate")
            rows, columns = ((side - SIDE) // STRIDE + 1 for side in levels.shape[-2:])
        else:
            rows, columns = (len(range(0, side - SIDE, STRIDE)) for side in (height, width))
        patches = self._replaced(cut_out(levels, rows, columns), seeds)
        made = stitch(patches, rows, columns, SEAMS[self.options.seam], *levels.shape[-2:])
        return Purified.without_solver(from_uint8(made[..., :height, :width].to(torch.uint8)))

    def _replaced(self, patches: Tensor, seeds: Sequence[int]) -> Tensor:
        """Every patch (B, P, 3, 25) by one of its nearest, which the image's seed chooses."""
        count = patches.shape[1]
        nearest = self.library.nearest(patches.flatten(2).flatten(0, 1), self.options.neighbours)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        choices = [torch.randint(self.options.neighbours, (count, 1), generator=one) for one in generators]
        chosen = nearest.gather(1, torch.cat(choices).to(nearest.device))[:, 0]
        return self.library.on(patches.device)[chosen].float().view(patches.shape)

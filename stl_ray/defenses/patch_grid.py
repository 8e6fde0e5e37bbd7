"""Overlapping patches of an image on a regular grid, and the image that is their mean where they overlap."""

from dataclasses import dataclass

from torch import Tensor

from stl_ray.errors import TensorError


@dataclass(frozen=True)
class PatchGrid:
    """The places of patches in images of one size: every `stride` pixels, and at the far edges.

    Args:
        height: of the images.
        width: of the images.
        side: of a patch, at most that of the image.
        stride: between patches, 1 to `side`.

    Raises:
        TensorError: no patch fits, or pixels would lie between patches.
    """

    height: int
    width: int
    side: int
    stride: int

    def __post_init__(self) -> None:
        if not 1 <= self.side <= min(self.height, self.width):
            got = f"{self.height} x {self.width}"
            raise TensorError("images smaller than a patch", expected=f"sides of at least {self.side}", got=got)
        if not 1 <= self.stride <= self.side:
            raise TensorError("stride out of range", expected=f"1 to the patch's side, {self.side}", got=self.stride)

    @property
    def tops(self) -> list[int]:
        """The first row of each row of patches."""
        return self._starts(self.height)

    @property
    def lefts(self) -> list[int]:
        """The first column of each column of patches."""
        return self._starts(self.width)

    def _starts(self, length: int) -> list[int]:
        last = length - self.side
        return [*range(0, last, self.stride), last]

    def patches(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> their patches (B, P, C, side, side), row by row."""
        windows = images.unfold(2, self.side, 1).unfold(3, self.side, 1)  # (B, C, top, left, side, side)
        chosen = windows[:, :, self.tops][:, :, :, self.lefts]
        return chosen.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)

    def added(self, patches: Tensor) -> Tensor:
        """The transpose of `patches`: patches (B, P, C, side, side) -> images (B, C, H, W), added where they overlap.

        They are added in one order: the sum depends on no batch and no device.
        """
        batch, _, channels = patches.shape[:3]
        rows, columns = len(self.tops), len(self.lefts)
        cells = patches.reshape(batch, rows, columns, channels, self.side, self.side).permute(0, 3, 1, 4, 2, 5)
        strips = patches.new_zeros(batch, channels, rows, self.side, self.width)
        for column, left in enumerate(self.lefts):
            strips[..., left : left + self.side] += cells[..., column, :]
        images = patches.new_zeros(batch, channels, self.height, self.width)
        for row, top in enumerate(self.tops):
            images[:, :, top : top + self.side] += strips[:, :, row]
        return images

    def counts(self, like: Tensor) -> Tensor:
        """(1, 1, H, W): the number of patches that cover each pixel, of the type and on the device of `like`."""
        return self.added(like.new_ones(1, len(self.tops) * len(self.lefts), 1, self.side, self.side))

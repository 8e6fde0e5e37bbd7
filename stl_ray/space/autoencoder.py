"""The denoising autoencoder whose latents route images to their cluster.

Source: Sun et al. 2019, section 3.2, with the authors' network: three blocks of convolution, batch norm, ReLU and
2x2 max-pooling, their mirror image with nearest-neighbour upsampling, and a sigmoid.
"""

from torch import Tensor, nn

from stl_ray.errors import TensorError

SIDES = (32, 64)
"""Sides in pixels of the images that an autoencoder may see: the paper's, and the authors' scripts'."""

WIDTH = 32
"""Channels of every hidden layer."""


def _block(inputs: int, resample: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU(), resample)


class Autoencoder(nn.Module):
    """Removes noise from (B, 3, side, side) RGB images in [0, 1] through a latent of 512 (side 32) or 2048 (64) numbers.

    Args:
        side: one of SIDES.

    Attributes:
        latent: length of a latent, 32 channels of side/8 x side/8.

    Raises:
        TensorError: there is no such side.
    """

    def __init__(self, side: int = 32) -> None:
        if side not in SIDES:
            raise TensorError("no side of an autoencoder", expected=" or ".join(map(str, SIDES)), got=side)
        super().__init__()
        self.side = side
        self.latent = WIDTH * (side // 8) ** 2
        self.encoder = nn.Sequential(*(_block(inputs, nn.MaxPool2d(2)) for inputs in (3, WIDTH, WIDTH)))
        self.decoder = nn.Sequential(
            *(_block(WIDTH, nn.Upsample(scale_factor=2)) for _ in range(3)),
            nn.Conv2d(WIDTH, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.Sigmoid(),
        )

    def encode(self, images: Tensor) -> Tensor:
        """The latents of `images` (B, 3, side, side) in [0, 1]: (B, latent), none negative.

        Raises:
            TensorError: the images are of another size, or not RGB.
        """
        return self._pooled(images).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """The denoised `images`, (B, 3, side, side) in (0, 1).

        Raises:
            TensorError: the images are of another size, or not RGB.
        """
        reconstruction: Tensor = self.decoder(self._pooled(images))
        return reconstruction

    def _pooled(self, images: Tensor) -> Tensor:
        size = (3, self.side, self.side)
        if images.dim() != 4 or images.shape[1:] != size:
            expected = f"(B, {', '.join(map(str, size))})"
            raise TensorError("the autoencoder sees one size", expected=expected, got=tuple(images.shape))
        pooled: Tensor = self.encoder(images)
        return pooled

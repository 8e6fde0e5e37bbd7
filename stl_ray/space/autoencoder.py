"""The denoising autoencoder whose latents route images to their cluster.

Source: Sun et al. 2019, section 3.2, with the authors' network: three blocks of convolution, batch norm, ReLU and
2x2 max-pooling, their mirror image with nearest-neighbour upsampling, and a sigmoid.
"""

from torch import Tensor, nn

from stl_ray.errors import TensorError

SIDE = 32
"""Side in pixels of the images that the autoencoder sees."""

WIDTH = 32
"""Channels of every hidden layer."""

LATENT = WIDTH * (SIDE // 8) ** 2
"""Length of a latent: 32 channels of 4 x 4."""


def _block(inputs: int, resample: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU(), resample)


class Autoencoder(nn.Module):
    """Removes noise from (B, 3, 32, 32) RGB images in [0, 1] through a latent of 512 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*(_block(inputs, nn.MaxPool2d(2)) for inputs in (3, WIDTH, WIDTH)))
        self.decoder = nn.Sequential(
            *(_block(WIDTH, nn.Upsample(scale_factor=2)) for _ in range(3)),
            nn.Conv2d(WIDTH, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.Sigmoid(),
        )

    def encode(self, images: Tensor) -> Tensor:
        """The latents of `images` (B, 3, 32, 32) in [0, 1]: (B, 512), none negative.

        Raises:
            TensorError: the images are not 32 x 32 RGB.
        """
        return self._pooled(images).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """The denoised `images`, (B, 3, 32, 32) in (0, 1).

        Raises:
            TensorError: the images are not 32 x 32 RGB.
        """
        reconstruction: Tensor = self.decoder(self._pooled(images))
        return reconstruction

    def _pooled(self, images: Tensor) -> Tensor:
        if images.dim() != 4 or images.shape[1:] != (3, SIDE, SIDE):
            raise TensorError("the autoencoder sees one size", expected="(B, 3, 32, 32)", got=tuple(images.shape))
        pooled: Tensor = self.encoder(images)
        return pooled

"""One epoch of a denoising autoencoder: the batches that a worker sees, the noise, the descent and the evaluation.

The noise of a whole batch is drawn from one generator seeded by (seed, epoch, step), and every worker takes the rows of
its images: so it depends neither on the number of workers nor on the training before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from stl_ray.errors import TrainingError
from stl_ray.images import from_uint8
from stl_ray.metrics import psnr
from stl_ray.seeding import seed_of
from stl_ray.space import Autoencoder
from stl_ray.training.data.batches import rank_part

ITEM = "autoencoder"

PEAK = 10 * log10(12 * 255**2)
"""58.9 dB, the PSNR of rounding to 8 bits: no image is counted as nearer to its thumbnail."""


@dataclass(frozen=True)
class Part:
    """One worker's part of every batch, and the sums over all workers.

    Args:
        thumbnails: (N, 3, side, side) uint8: all of them.
        noise: standard deviation, in [0, 1] pixels.
        device: where the training runs and the noise is drawn.
        rank: of this worker.
        world_size: number of workers.
    """

    thumbnails: Tensor
    noise: float
    device: torch.device
    rank: int
    world_size: int

    def pairs(self, batch: Tensor, purpose: str, seed: int) -> tuple[Tensor, Tensor]:
        """This worker's images of a batch of indices, clean and noisy; `purpose` and `seed` determine the noise."""
        clean = from_uint8(self.thumbnails[self._mine(batch)].to(self.device))
        generator = torch.Generator(self.device).manual_seed(seed_of(seed, ITEM, purpose))
        noise = torch.randn((len(batch), *clean.shape[1:]), generator=generator, device=self.device)
        return clean, (clean + self.noise * self._mine(noise)).clamp(0, 1)

    def _mine(self, rows: Tensor) -> Tensor:
        return rank_part(rows, rank=self.rank, world_size=self.world_size)

    def over_all(self, totals: Tensor) -> Tensor:
        """The sums over all workers, the same bits for each."""
        if self.world_size > 1:
            torch.distributed.all_reduce(totals)
        return totals


def descend(
    model: Autoencoder | DistributedDataParallel,
    optimizer: torch.optim.Optimizer,
    part: Part,
    batches: Sequence[Tensor],
    *,
    epoch: int,
    seed: int,
) -> float:
    """One epoch of Adam over batches of indices of thumbnails; returns the mean loss, each batch at its step.

    Raises:
        TrainingError: a reconstruction is not finite.
    """
    total = torch.zeros((), dtype=torch.float64, device=part.device)
    for step, batch in enumerate(batches):
        clean, noisy = part.pairs(batch, f"noise of epoch {epoch} step {step}", seed)
        losses = _losses(model(noisy), clean, epoch)
        optimizer.zero_grad()
        # DistributedDataParallel averages over ranks; with this factor that is the mean over the whole batch.
        torch.autograd.backward(losses.sum() * (part.world_size / len(batch)))
        optimizer.step()
        total += losses.detach().sum()
    return part.over_all(total).item() / sum(map(len, batches))


@torch.no_grad()
def evaluate(
    autoencoder: Autoencoder, part: Part, batches: Sequence[Tensor], *, epoch: int, seed: int
) -> tuple[float, float, float]:
    """The mean loss over held-out images, and the mean PSNR in dB of denoised and of noisy images.

    Raises:
        TrainingError: a reconstruction is not finite.
    """
    totals = torch.zeros(3, dtype=torch.float64, device=part.device)
    for step, batch in enumerate(batches):
        clean, noisy = part.pairs(batch, f"validation noise of step {step}", seed)
        if len(clean):  # a worker may have none of a short batch
            denoised = autoencoder(noisy)
            figures = _losses(denoised, clean, epoch), _psnr(denoised, clean), _psnr(noisy, clean)
            totals += torch.stack([figure.sum() for figure in figures])
    loss, denoised_psnr, noisy_psnr = (part.over_all(totals) / sum(map(len, batches))).tolist()
    return loss, denoised_psnr, noisy_psnr


def _losses(reconstruction: Tensor, clean: Tensor, epoch: int) -> Tensor:
    """The mean binary cross-entropy of every image's pixels."""
    if not bool(reconstruction.isfinite().all()):
        raise TrainingError("the autoencoder diverged", item=f"epoch {epoch}", expected="a smaller learning rate")
    return F.binary_cross_entropy(reconstruction, clean, reduction="none").flatten(1).mean(dim=1)


def _psnr(images: Tensor, clean: Tensor) -> Tensor:
    return psnr(images, clean).clamp(max=PEAK)

"""Checks for losses and weights that are not finite: the same error on every rank, for losses with their images' ids.

Reading a loss makes a GPU wait. So losses are kept for some steps and read together; a NaN of one rank is in the weights
of all a step later, so all ranks agree on the first step that had one and stop there.
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed
from torch import Tensor, nn

from stl_ray.errors import TrainingError

_SHOWN = 8
_NEVER = 2**62

_Step = tuple[int, Tensor, list[int], int]


class FiniteLosses:
    """The losses since the last check.

    Args:
        ids: gives the ids at some indices.
        world_size: number of ranks.
    """

    def __init__(self, ids: Callable[[Sequence[int]], list[str]], world_size: int) -> None:
        self._ids, self._world_size = ids, world_size
        self._kept: list[_Step] = []

    def keep(self, step: int, losses: Tensor, indices: list[int], size: int) -> None:
        """Remember a step's losses (B,), the indices of its images, and how many the batch had over all ranks."""
        self._kept.append((step, losses.detach(), indices, size))

    def require(self, epoch: int) -> None:
        """Check the losses that were kept, on all ranks at the same step.

        Raises:
            TrainingError: a loss is not finite; the same on every rank, with the ids of the first step that had one.
        """
        kept, self._kept = self._kept, []
        if not kept:
            return
        good = torch.stack([losses.isfinite().all() for _, losses, _, _ in kept]).tolist()
        first = next((step for (step, *_), fine in zip(kept, good, strict=True) if not fine), _NEVER)
        bad = self._bad(kept, first)
        reports = [(first, *bad)]
        if self._world_size > 1:
            steps = torch.tensor(first, device=kept[0][1].device)
            torch.distributed.all_reduce(steps, torch.distributed.ReduceOp.MIN)
            if int(steps) == _NEVER:
                return
            reports = [None] * self._world_size  # type: ignore[list-item]
            torch.distributed.all_gather_object(reports, (first, *bad))
        first = min(step for step, *_ in reports)
        if first == _NEVER:
            return
        ids = [item for step, some, _, _ in reports if step == first for item in some]
        images = next(size for step, _, size, _ in reports if step == first)
        value = next(value for step, _, _, value in reports if step == first)
        shown = ", ".join(ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
        raise TrainingError(
            f"the loss is not finite for {len(ids)} of the {images} images of a batch: {shown}",
            item=f"epoch {epoch} step {first + 1}",
            expected="finite losses; a smaller learning rate or train.clip_norm helps if this is not the images' fault",
            got=value,
        )

    def _bad(self, kept: list[_Step], first: int) -> tuple[list[str], int, float]:
        """Ids of the images without a finite loss at a step, the size of its batch, and one of the losses."""
        for step, losses, indices, size in kept:
            if step == first:
                finite = losses.isfinite().tolist()
                bad = [index for index, fine in zip(indices, finite, strict=True) if not fine]
                return self._ids(bad), size, float(losses[finite.index(False)])
        return [], 0, 0.0


def require_finite_weights(module: nn.Module, epoch: int) -> None:
    """Refuse weights and statistics that are not finite after an epoch; ranks that share them all raise.

    Raises:
        TrainingError: a tensor is not finite; it is named.
    """
    tensors = {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    good = torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).tolist()
    bad = [name for name, fine in zip(tensors, good, strict=True) if not fine]
    if bad:
        raise TrainingError(
            "weights are not finite after the last step, though the losses were",
            item=f"epoch {epoch} {bad[0]}",
            expected="finite weights; a smaller learning rate or train.clip_norm helps",
            got=f"{len(bad)} of {len(tensors)} tensors that are not",
        )

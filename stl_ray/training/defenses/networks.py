"""Training of a defense's network on windows of the training images, epoch by epoch, by Adam.

Every random number comes from (seed, kind of network, purpose), so that training that goes on from a state gives the same
bits as training that was never stopped.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from stl_ray.defenses.fitted_network import NetworkRecipe, held_out_count
from stl_ray.errors import TrainingError
from stl_ray.training.classifier.checkpoint import MODEL, capture, restore, unnamed
from stl_ray.training.data.batches import epoch_batches

Loss = Callable[[Tensor, Tensor | None], Tensor]
"""(windows (B, 3, side, side) uint8 on the device, their rows among those that are learned from; None: they are held out)
-> the mean loss of a value."""


@dataclass(frozen=True)
class NetworkEpoch:
    """Figures of one epoch, and the state from which training resumes."""

    epoch: int
    """Epochs finished, from 1."""
    train_loss: float
    """Mean loss of a value over the epoch, each batch at its step."""
    validation_loss: float
    """The same over the held-out windows after the epoch."""
    seconds: float
    images_per_second: float
    _state: dict[str, Tensor] = field(repr=False)

    def row(self) -> dict[str, int | float]:
        """The figures by name, JSON-able."""
        return {name: value for name, value in vars(self).items() if name != "_state"}

    def state(self) -> dict[str, Tensor]:
        """Tensors on the CPU by name: the `state` of `train_network`."""
        return self._state


def weights_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's weights after the epoch of a state."""
    return unnamed(MODEL, state)


def divided(windows: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """The windows that are held out, the first, and those that are learned from.

    Raises:
        TrainingError: none are left to learn from.
    """
    count = held_out_count(len(windows))
    if len(windows) <= count:
        raise TrainingError("too few images to train on", item=kind, expected="2 or more", got=len(windows))
    return windows[:count], windows[count:]


def train_network(
    network: nn.Module,
    loss: Loss,
    held_out: Tensor,
    learned: Tensor,
    recipe: NetworkRecipe,
    *,
    rate: Callable[[float], float],
    seed: int,
    device: torch.device | str,
    state: Mapping[str, Tensor] | None,
) -> Iterator[NetworkEpoch]:
    """Train a network; yields after every epoch.

    Args:
        network: on the device; is changed in place.
        loss: of it.
        held_out: (M, 3, side, side) uint8 RGB on the CPU, which it is judged by.
        learned: (N, 3, side, side), which it learns from.
        recipe: kind, epochs and size of a batch.
        rate: Adam's, by the share of all steps that are done.
        seed: the run seed.
        device: where it is trained.
        state: of an earlier `NetworkEpoch`, from which training resumes.

    Raises:
        TrainingError: the state is another network's, or training diverged.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=rate(0))
    first = 0 if state is None else restore(network, optimizer, state, kind="network")
    for epoch in range(first + 1, recipe.epochs + 1):
        started = time.perf_counter()
        total = 0.0
        batches = epoch_batches(len(learned), recipe.batch_size, epoch=epoch, seed=seed, item=recipe.kind)
        for step, batch in enumerate(batches):
            optimizer.param_groups[0]["lr"] = rate((epoch - 1 + step / len(batches)) / recipe.epochs)
            of_batch = loss(learned[batch].to(device), batch)
            optimizer.zero_grad()
            torch.autograd.backward(of_batch)
            optimizer.step()
            total += float(of_batch.detach()) * len(batch)
        with torch.no_grad():
            judged = [
                len(part) * float(loss(part.to(device), None)) for part in torch.split(held_out, recipe.batch_size)
            ]
        validation = sum(judged) / len(held_out)
        if not validation < float("inf"):
            raise TrainingError("the network diverged", item=f"{recipe.kind}, epoch {epoch}", got=f"loss {validation}")
        seconds = time.perf_counter() - started
        yield NetworkEpoch(
            epoch, total / len(learned), validation, seconds, (len(learned) + len(held_out)) / seconds,
            capture(network, optimizer, epoch),
        )  # fmt: skip

"""The state of an interrupted training as tensors by name, so that it is stored without pickle.

`epoch`: epochs finished; `model.<name>`: the module's state dict; `optimizer.<key>.<name>`: the optimizer's state of a
parameter, such as SGD's `momentum_buffer`, or Adam's `exp_avg`, `exp_avg_sq` and `step`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stl_ray.errors import TrainingError

MODEL = "model."
OPTIMIZER = "optimizer."


def capture(module: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> dict[str, Tensor]:
    """The state from which training resumes, as copies on the CPU."""
    state = {"epoch": torch.tensor(epoch), **named(MODEL, module.state_dict())}
    for name, parameter in module.named_parameters():
        for key, tensor in optimizer.state[parameter].items():
            if tensor is not None:  # SGD without momentum
                state[f"{OPTIMIZER}{key}.{name}"] = _kept(tensor)
    return state


def restore(module: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor], *, kind: str) -> int:
    """Load `state` into a module and its optimizer, and return the number of finished epochs.

    Args:
        module: is filled in place.
        optimizer: of the module's parameters.
        state: of `capture`; further tensors are left alone.
        kind: what the module is, for the error.

    Raises:
        TrainingError: the state is not of this architecture.
    """
    parameters = dict(module.named_parameters())
    try:
        module.load_state_dict(unnamed(MODEL, state))
        for path, tensor in unnamed(OPTIMIZER, state).items():
            key, _, name = path.partition(".")
            # In the parameter's layout and on its device; Adam's counter of steps is a scalar, which torch keeps on the CPU.
            like = parameters[name].detach() if tensor.dim() else tensor
            optimizer.state[parameters[name]][key] = torch.empty_like(like).copy_(tensor)
        return int(state["epoch"])
    except (KeyError, RuntimeError) as error:
        raise TrainingError(f"the saved state is not of this {kind} ({error})") from error


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, every name with a prefix."""
    return {prefix + name: _kept(tensor) for name, tensor in tensors.items()}


def unnamed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state whose name has the prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _kept(tensor: Tensor) -> Tensor:
    """A copy on the CPU in rows, whatever the memory format: safetensors takes no other."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)

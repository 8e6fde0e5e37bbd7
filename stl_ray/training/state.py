"""The state of an interrupted training as tensors by name, so that it is stored without pickle.

`epoch`: epochs finished; `model.<name>`: the backbone's state dict; `momentum.<name>`: SGD's momentum of a parameter.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from stl_ray.errors import TrainingError
from stl_ray.models import Classifier

MODEL = "model."
MOMENTUM = "momentum."


def capture(classifier: Classifier, optimizer: torch.optim.SGD, epoch: int) -> dict[str, Tensor]:
    """Copies on the CPU of all that training goes on from."""
    state = {"epoch": torch.tensor(epoch)}
    for name, tensor in classifier.backbone.state_dict().items():
        state[MODEL + name] = tensor.detach().to("cpu", copy=True)
    for name, parameter in classifier.backbone.named_parameters():
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            state[MOMENTUM + name] = momentum.to("cpu", copy=True)
    return state


def restore(classifier: Classifier, optimizer: torch.optim.SGD, state: Mapping[str, Tensor]) -> int:
    """Put `state` into a classifier and its optimizer; the epochs that were finished.

    Raises:
        TrainingError: the state is not of this architecture and number of classes.
    """
    weights = {name.removeprefix(MODEL): tensor for name, tensor in state.items() if name.startswith(MODEL)}
    parameters = dict(classifier.backbone.named_parameters())
    try:
        classifier.backbone.load_state_dict(weights)
        for name, tensor in state.items():
            if name.startswith(MOMENTUM):
                parameter = parameters[name.removeprefix(MOMENTUM)]
                optimizer.state[parameter]["momentum_buffer"] = tensor.to(parameter.device, copy=True)
        return int(state["epoch"])
    except (KeyError, RuntimeError) as error:
        raise TrainingError(
            f"the saved state is not of this classifier ({error})", item=classifier.architecture
        ) from error

"""Callers within `torch.inference_mode()`, where autograd records nothing: gradients are taken outside of it."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def outside_inference() -> AbstractContextManager[object]:
    """A context outside of inference mode; elsewhere it does nothing, where leaving the mode would turn gradients on."""
    return torch.inference_mode(mode=False) if torch.is_inference_mode_enabled() else nullcontext()


def without_inference(tensor: Tensor) -> Tensor:
    """The tensor, or a copy of one that was made in inference mode, of which autograd takes none."""
    return tensor.clone() if tensor.is_inference() else tensor

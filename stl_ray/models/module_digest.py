"""The digest of a network's weights."""

import hashlib

import torch
from torch import Tensor, nn


def module_digest(module: nn.Module) -> str:
    """SHA-256 over every weight and buffer, by name."""
    total = hashlib.sha256()
    for name, tensor in (*sorted(module.state_dict().items()), *sorted(module.named_buffers())):
        total.update(name.encode() + b"\0" + _bytes(tensor))
    return total.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    values = tensor.detach().cpu().contiguous()
    kind = f"{values.dtype} {tuple(values.shape)}\0".encode()
    return kind + values.reshape(-1).view(torch.uint8).numpy().tobytes()

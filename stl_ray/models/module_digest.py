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
    if values.dtype in (torch.float16, torch.float32, torch.float64) or not values.is_floating_point():
        return values.numpy().tobytes()
    # NumPy has no bfloat16, whose bits another type of 16 bits may have too.
    return str(values.dtype).encode() + values.reshape(-1).view(torch.uint8).numpy().tobytes()

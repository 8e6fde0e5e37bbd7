"""A call between two graphs of `torch.compile`, never traced. Loads the compiler when imported."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


@torch.compiler.disable  # type: ignore[untyped-decorator]
def call(function: Callable[[Tensor], Result], images: Tensor) -> Result:
    """The result of a function for images (B, C, H, W), called as it is."""
    return function(images)

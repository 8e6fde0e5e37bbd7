"""The pruning of one layer's activations by SAP (Dhillon et al. 2018, arXiv:1803.01442, section 3).

Of the n activations h of a layer, r are drawn with replacement, with probabilities p = |h| / sum |h|; what was drawn at least
once is divided by its probability of that, and the rest becomes zero:

    h m / (1 - (1 - p)^r),  m = 1 where drawn, else 0

so that the expectation is h. The derivative is that of this expression with m held, p's part included; the authors' operator
(Guneet-Dhillon/mxnet, stochastic_activation_pruning-inl.h) leaves that part out.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def prune(activations: Tensor, draws: float, generators: Sequence[torch.Generator]) -> Tensor:
    """As above.

    Args:
        activations: (B, ...) of a layer.
        draws: r / n; r is rounded down, and at least 1.
        generators: on the CPU, one per image, which supplies the image's r random numbers.

    Returns:
        (B, ...) like the activations; an image's are zero where all of them were.
    """
    flat = activations.flatten(1)
    size = flat.shape[1]
    count = max(1, int(draws * size))
    # An activation map of a large image has a million entries: float32 would leave its distribution two digits.
    steps = flat.detach().abs().double().cumsum(1)
    total = steps[:, -1:].contiguous()
    uniform = torch.stack([torch.rand(count, generator=generator, dtype=torch.float64) for generator in generators])
    drawn = torch.searchsorted(steps, uniform.to(flat.device) * total, right=True).clamp_(max=size - 1)
    kept = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, drawn, True)
    # 1 - (1 - p)^r, of which little is left in float32 where p is small; p = 1 has no logarithm.
    chance = -torch.expm1(count * torch.log1p(-_probabilities(flat).clamp(max=1 - 1e-7)))
    return _reweighted(flat, kept, chance).view(activations.shape)


def prune_each(activations: Tensor, draws: float, generators: Sequence[torch.Generator]) -> Tensor:
    """`prune` as Athalye et al. 2018 wrote it (obfuscated-gradients, sap_model.py): every activation is kept on its own,
    with probability 1 - exp(-r p), which a random number of draws with mean r would give.

    Args and returns: as of `prune`.
    """
    flat = activations.flatten(1)
    chance = -torch.expm1(-draws * flat.shape[1] * _probabilities(flat))
    uniform = torch.stack([torch.rand(flat.shape[1], generator=generator) for generator in generators])
    return _reweighted(flat, ~(uniform.to(flat.device) >= chance), chance).view(activations.shape)


def _probabilities(flat: Tensor) -> Tensor:
    magnitudes = flat.abs()
    return magnitudes / magnitudes.sum(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)


def _reweighted(flat: Tensor, kept: Tensor, chance: Tensor) -> Tensor:
    # What has no chance was not kept: it gets another divisor, since zero over zero has no derivative either. NaN stays NaN.
    kept = kept & (chance != 0)
    return torch.where(kept, flat / chance.where(kept, 1), 0)

"""Mixtures of logistic distributions over the 256 levels of a value, as a network gives them for a pixel: of PixelCNN++.

A level v is the interval from v - 1/2 to v + 1/2; level 0 goes on to minus infinity and 255 to infinity. A component of
mean m and scale s gives it

    F((v + 1/2 - m) / s) - F((v - 1/2 - m) / s)  =  F(b) F(-a) (1 - exp(a - b)),    F(t) = 1 / (1 + exp(-t)),

a and b the two arguments: the right side has a logarithm that is finite however unlikely the level is. Means of green
move with the pixel's red, those of blue with its red and green; the weights of the components are the same for all three.
Source: Salimans et al. 2017, section 2.1 and 2.2; as a softmax of each channel by itself, with these weights, as in the
published code of PixelDefend (`mix_logistic_to_logits`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PER_COMPONENT = 10
"""Numbers that a component has of a pixel: a weight, then a mean, a scale and a coefficient of each channel."""

MEANS, SCALES, COEFFICIENTS = slice(1, 4), slice(4, 7), slice(7, 10)
"""Where they are among these; the weight is the first."""

LOG_SCALES = (-7.0, 7.0)
"""Range of the scales' logarithms, for values in [-1, 1]."""

_BEYOND = 1e6
"""Where levels 0 and 255 end: far enough that F is 0 and 1 there, and finite, for the sake of derivatives."""


def scaled(levels: Tensor) -> Tensor:
    """Levels 0 to 255 as values in [-1, 1]."""
    return levels / 127.5 - 1


class Mixtures(NamedTuple):
    """The mixtures of pixels: (..., 3, K) each but for the logarithms of weights, (..., K).

    Attributes:
        log_weights: of the components; their exponentials sum to 1.
        means: of values in [-1, 1], before they move with the channels before.
        inverse_scales: 1 / s, for values in [-1, 1].
        coefficients: by which green's means move with red, blue's with red, and blue's with green.
    """

    log_weights: Tensor
    means: Tensor
    inverse_scales: Tensor
    coefficients: Tensor

    @classmethod
    def of(cls, numbers: Tensor) -> "Mixtures":
        """The mixtures that (..., 10 K) numbers stand for."""
        parts = numbers.reshape(*numbers.shape[:-1], PER_COMPONENT, -1)
        return cls(
            parts[..., 0, :].log_softmax(-1),
            parts[..., MEANS, :],
            (-parts[..., SCALES, :].clamp(*LOG_SCALES)).exp(),
            parts[..., COEFFICIENTS, :].tanh(),
        )

    def log_probabilities(self, bounds: tuple[Tensor, Tensor], channel: int, before: Sequence[Tensor]) -> Tensor:
        """Logarithms of the probabilities (..., V) of levels of a channel.

        Args:
            bounds: of the levels, by `bounds_of`.
            channel: 0 to 2.
            before: the pixels' values (...) in the channels before it, in [-1, 1].
        """
        means, first = self.means[..., channel, :], (0, 0, 1)[channel]
        for number, value in enumerate(before):
            means = torch.addcmul(means, self.coefficients[..., first + number, :], value.unsqueeze(-1))
        means, inverse = means.unsqueeze(-2), self.inverse_scales[..., channel, None, :]
        lower, upper = (bound.unsqueeze(-1) for bound in bounds)
        a, b = (lower - means) * inverse, (upper - means) * inverse
        # By the width of the interval: of a mean that is far away, a - b would be rounded to 0.
        components = (-torch.expm1((lower - upper) * inverse)).log() - F.softplus(-b) - F.softplus(a)
        return (components + self.log_weights.unsqueeze(-2)).logsumexp(-1)


def bounds_of(levels: Tensor) -> tuple[Tensor, Tensor]:
    """The bounds of levels' intervals, for values in [-1, 1]."""
    lower = torch.where(levels > 0, scaled(levels - 0.5), -_BEYOND)
    return lower, torch.where(levels < 255, scaled(levels + 0.5), _BEYOND)


def log_likelihood(numbers: Tensor, levels: Tensor) -> Tensor:
    """Logarithms of the probabilities (..., 3) of pixels' levels (..., 3), by (..., 10 K) numbers for each pixel."""
    mixtures, values = Mixtures.of(numbers), scaled(levels).unbind(-1)
    lower, upper = bounds_of(levels)
    return torch.cat(
        [
            mixtures.log_probabilities(
                (lower[..., channel, None], upper[..., channel, None]), channel, values[:channel]
            )
            for channel in range(3)
        ],
        -1,
    )

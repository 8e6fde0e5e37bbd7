"""MagNet's detectors, which refuse images that the autoencoder changes too much. Source: Meng and Chen 2017, section 4.2.

Of an image x and its reconstruction y, as the classifier sees it behind the reformer (of 8 bits):

    error     mean |x - y|^p over the values
    JSD at T  Jensen-Shannon divergence, in nats, of softmax(z(x) / T) and softmax(z(y) / T), z the classifier's logits

Each has a threshold, above which a given share of clean validation images lies (`thresholds`). The score is the largest of the
statistics over their thresholds: an image is refused if one detector refuses it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.defenses.detector import Detector
from stl_ray.models import Victim

_LEAST = 1e-12
"""Of a threshold, so that a score is finite: where all statistics of the validation images are 0, whatever is above that is refused."""


def divergence(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Jensen-Shannon divergences (B,) float64, in [0, log 2], of the softmaxes of two sets of logits (B, n)."""
    p, q = ((logits.double() / temperature).log_softmax(1) for logits in (first, second))
    middle = torch.logaddexp(p, q) - log(2)
    terms = p.exp() * (p - middle) + q.exp() * (q - middle)
    return (terms.sum(1) / 2).clamp_min(0)


def statistics(
    images: Tensor, seen: Tensor, logits: Tensor, logits_seen: Tensor, p: int, temperatures: Sequence[float]
) -> Tensor:
    """The statistics of all detectors, (B, 1 + len(temperatures)) float64, the reconstruction error first."""
    error = (images.double() - seen.double()).abs().pow(p).flatten(1).mean(1)
    return torch.stack([error, *(divergence(logits, logits_seen, temperature) for temperature in temperatures)], dim=1)


def thresholds(found: NDArray[np.float64], drop_rates: Sequence[float]) -> NDArray[np.float64]:
    """The thresholds (d,) of statistics (N, d) that floor(N drop rate) of the images are above, where no two are alike."""
    ordered = np.sort(found, axis=0)
    kept = [len(ordered) - floor(len(ordered) * rate + 1e-9) for rate in drop_rates]
    return np.array([ordered[count - 1, column] for column, count in enumerate(kept)])


@dataclass(frozen=True)
class MagnetDetector(Detector):
    """The detectors in front of a classifier; its derivative is exact.

    Args:
        classifier: that stands behind them.
        thresholds: (1 + len(temperatures),) float64.
        p: power of the reconstruction error.
        temperatures: of the divergences.
    """

    classifier: Victim
    thresholds: Tensor
    p: int
    temperatures: tuple[float, ...]

    def scores(self, images: Tensor, seen: Tensor) -> Tensor:
        """See `Detector.scores`."""
        return self._scores(images, seen, self.classifier.logits(images), self.classifier.logits(seen))

    def scores_and_vjp(
        self, images: Tensor, seen: Tensor, cotangent: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Detector.scores_and_vjp`."""
        scores = through_seen = torch.empty(0)
        products: tuple[Tensor, ...] = ()

        def of_logits(logits: Tensor) -> Tensor:
            nonlocal through_seen

            def of_logits_seen(logits_seen: Tensor) -> Tensor:
                nonlocal scores, products
                with torch.inference_mode(mode=False), torch.enable_grad():
                    leaves = [one.detach().clone().requires_grad_() for one in (images, seen, logits, logits_seen)]
                    output = self._scores(*leaves)
                scores = output.detach()
                products = torch.autograd.grad(output, leaves, cotangent(scores))
                return products[3]

            # Within the other pass, as the derivative by one of the logits needs both.
            _, through_seen = self.classifier.logits_and_vjp(seen, of_logits_seen)
            return products[2]

        _, through_images = self.classifier.logits_and_vjp(images, of_logits)
        return scores, products[0] + through_images, products[1] + through_seen

    def _scores(self, images: Tensor, seen: Tensor, logits: Tensor, logits_seen: Tensor) -> Tensor:
        found = statistics(images, seen, logits, logits_seen, self.p, self.temperatures)
        return (found / self.thresholds.to(found.device).clamp_min(_LEAST)).amax(1).float()

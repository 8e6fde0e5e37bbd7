"""What the detector of LID learns from: clean images, noisy ones, attacked ones, and a logistic regression of them.

Source: Ma et al. 2018 (arXiv:1801.02613), section 4 and algorithm 1. Noise is as long as the perturbation of the attack on the
same image, so that the detector learns adversarial directions and not sizes; clean and noisy images are to be accepted.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stl_ray.images import quantize
from stl_ray.metrics import l2_norm
from stl_ray.models import Victim, tile_size
from stl_ray.tiling import in_tiles

STEPS, STEP, RADIUS = 10, 2 / 255, 8 / 255
"""Of projected gradient ascent in L_inf: its steps, their size, and how far it may go."""


def attacked(classifier: Victim, images: Tensor, labels: Tensor) -> Tensor:
    """Images (N, 3, H, W) on the 8-bit grid by projected gradient ascent on the cross-entropy, from the images themselves.

    Args:
        classifier: that is attacked.
        images: (N, 3, H, W) in [0, 1].
        labels: (N,) their classes.
    """

    def of_tile(clean: Tensor, true: Tensor) -> tuple[Tensor]:
        def slope(logits: Tensor) -> Tensor:
            # Softmax minus one-hot, without the difference, which a confident network would round to zero.
            others = logits.softmax(1).scatter(1, true[:, None], 0)
            return others.scatter(1, true[:, None], -others.sum(1, keepdim=True))

        current = clean
        for _ in range(STEPS):
            _, gradient = classifier.logits_and_vjp(current, slope)
            change = (current + STEP * gradient.sign() - clean).clamp(-RADIUS, RADIUS)
            current = (clean + change).clamp(0, 1)
        return (quantize(current),)

    size = tile_size(images.shape[-2], images.shape[-1], images.device)
    return in_tiles(of_tile, images, labels, size=size)[0]


def noisy(images: Tensor, others: Tensor, seeds: Sequence[int]) -> Tensor:
    """Images (N, 3, H, W) on the 8-bit grid with Gaussian noise, before clipping as long as their distance to the others.

    Args:
        images: (N, 3, H, W) in [0, 1].
        others: (N, 3, H, W).
        seeds: (N,) of the noise.
    """
    drawn = [torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    noise = torch.stack(drawn).to(images)
    lengths = l2_norm(others - images) / l2_norm(noise)
    return quantize((images + noise * lengths[:, None, None, None]).clamp(0, 1))


def regression(accepted: Tensor, refused: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Weights (L,) and intercept (1,), float64, of log-odds that an image is to be refused, as logistic regression has them.

    scikit-learn's `LogisticRegressionCV`, whose weight of the penalty is the one with the best accuracy in five folds, of
    features scaled to [0, 1]: as the authors' code does.

    Args:
        accepted: (N, L) features, N >= 5.
        refused: (M, L) features, M >= 5.
    """
    from sklearn.linear_model import LogisticRegressionCV  # brings pandas, where that is installed
    from sklearn.preprocessing import MinMaxScaler

    features = torch.cat([accepted, refused]).double().cpu().numpy()
    targets = np.repeat([0, 1], [len(accepted), len(refused)])
    scaler = MinMaxScaler().fit(features)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of defaults that are not used here
        fitted = LogisticRegressionCV(scoring="accuracy", max_iter=10_000).fit(scaler.transform(features), targets)
    weights = fitted.coef_[0] * scaler.scale_
    return weights, fitted.intercept_ + fitted.coef_[0] @ scaler.min_

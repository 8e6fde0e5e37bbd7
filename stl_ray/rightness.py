"""When an answer of a defended classifier is right: the one rule of scores, worst cases, checks and galleries.

A clean image must be accepted and its class found. An attack must neither change the class nor be refused by the detector,
where there is one; where it is refused, it has failed. A solve that diverged leaves no answer, which is wrong. No torch.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

NO_VERDICT = -1
"""Prediction for an image whose solve diverged; it is wrong whatever the label."""


def right(prediction: ArrayLike, label: ArrayLike, rejected: ArrayLike, *, attacked: ArrayLike) -> NDArray[np.bool_]:
    """Whether answers are right, element by element.

    Args:
        prediction: the class, or `NO_VERDICT`.
        label: the true class.
        rejected: whether the detector refused the image.
        attacked: whether the image was attacked.
    """
    found, refused = np.equal(prediction, label), np.asarray(rejected, bool)
    outcome: NDArray[np.bool_] = np.not_equal(prediction, NO_VERDICT) & np.where(
        attacked, found | refused, found & ~refused
    )
    return outcome

"""Convolutional basis pursuit denoising (CBPDN), the one solver of the package.

    minimise over x   1/2 sum_c || s_c - sum_k d_{k,c} (*) x_k ||^2 + lambda sum_k || x_k ||_1

for images s with fixed filters d (Sun et al. 2019, Eq. 1 and section 3.3; without the low band, see `bands`).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from stl_ray.csc import admm
from stl_ray.csc.codes import ACCURACIES, Accuracy, Codes
from stl_ray.csc.dictionary import Dictionary
from stl_ray.errors import TensorError

METHODS: dict[str, Callable[[Tensor, Dictionary, float, Accuracy, Tensor | None], Codes]] = {"admm": admm.solve}
"""The methods by name. Each solves every image on its own, to the accuracy asked for."""


def solve_cbpdn(
    highpass: Tensor,
    dictionary: Dictionary,
    lmbda: float,
    *,
    method: str = "auto",
    accuracy: str | Accuracy = "default",
    start: Tensor | None = None,
) -> Codes:
    """Sparse codes of every image, which depend on nothing but that image and the arguments.

    Args:
        highpass: (B, C, H, W) float32 or float64, the high band of images in [0, 1]; H, W >= S.
        dictionary: the filters.
        lmbda: the l1 weight, in the dictionary's norm convention.
        method: "auto" or a name of METHODS.
        accuracy: "default", "reference", "exact", or tolerances of one's own.
        start: (B, K, H, W) codes to start from, for a sequence of similar problems.

    Raises:
        TensorError: an argument has the wrong shape, type or range, or is not finite.
    """
    check_images(highpass, dictionary.channels)
    shape = (highpass.shape[0], dictionary.filters.shape[0], *highpass.shape[2:])
    if not 0 < lmbda < float("inf"):
        raise TensorError("lambda out of range", expected="a positive number", got=lmbda)
    if start is not None and start.shape != shape:
        raise TensorError("start of another shape", expected=shape, got=tuple(start.shape))
    name = "admm" if method == "auto" else method
    if name not in METHODS:
        raise TensorError("unknown method", expected=", ".join(("auto", *METHODS)), got=method)
    with torch.no_grad():
        return METHODS[name](highpass.detach(), dictionary, lmbda, tolerances(accuracy), start)


def tolerances(accuracy: str | Accuracy) -> Accuracy:
    """The tier of that name, or the tolerances themselves.

    Raises:
        TensorError: there is no such tier.
    """
    if isinstance(accuracy, Accuracy):
        return accuracy
    if accuracy not in ACCURACIES:
        raise TensorError("unknown accuracy", expected=", ".join(ACCURACIES), got=accuracy)
    return ACCURACIES[accuracy]


def check_images(images: Tensor, channels: int) -> None:
    """Refuse what is not a non-empty finite (B, channels, H, W) batch in float32 or float64.

    Raises:
        TensorError: with what was expected and what came.
    """
    if images.dim() != 4 or images.shape[0] == 0 or images.shape[1] != channels:
        raise TensorError("images of another shape", expected=f"(B >= 1, {channels}, H, W)", got=tuple(images.shape))
    if images.dtype not in (torch.float32, torch.float64):
        raise TensorError("images of another type", expected="float32 or float64", got=images.dtype)
    if not bool(images.isfinite().all()):
        raise TensorError("images that are not finite", expected="finite pixels", got="NaN or infinity")

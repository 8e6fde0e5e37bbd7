"""Convolutional basis pursuit denoising (CBPDN), the one solver of the package.

    minimise over x   1/2 sum_c || s_c - sum_k d_{k,c} (*) x_k ||^2 + lambda sum_k || x_k ||_1

for images s with fixed filters d (Sun et al. 2019, Eq. 1 and section 3.3; without the low band, see `bands`).
"""

import warnings
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from stl_ray.csc import active_set, admm, fused, native
from stl_ray.csc.codes import ACCURACIES, Accuracy, Codes
from stl_ray.csc.dictionary import Dictionary
from stl_ray.errors import TensorError
from stl_ray.options import require_known

METHODS: dict[str, Callable[[Tensor, Dictionary, float, Accuracy, Tensor | None], Codes]] = {
    "active_set": active_set.solve,
    "admm": admm.solve,
    "fused": fused.solve,
    **{f"active_set/{name}": partial(active_set.solve, instruction_set=name) for name in native.INSTRUCTION_SETS},
}
"""The methods by name. Each solves every image on its own, to the accuracy asked for, or refuses what it cannot take.
`active_set/avx2` and the like give the same bytes on processors of several kinds."""


def solve_cbpdn(
    highpass: Tensor,
    dictionary: Dictionary,
    lmbda: float,
    *,
    method: str = "auto",
    accuracy: str | Accuracy = "default",
    start: Codes | Tensor | None = None,
) -> Codes:
    """Sparse codes of every image, which depend on nothing but that image and the arguments.

    Args:
        highpass: (B, C, H, W) float32 or float64, the high band of images in [0, 1]; H, W >= S.
        dictionary: the filters.
        lmbda: the l1 weight, in the dictionary's norm convention.
        method: "auto" (see `choose_method`) or a name of METHODS.
        accuracy: "default", "reference", "exact", or tolerances of one's own.
        start: codes to start from, for a sequence of similar problems: those of an earlier solve, or (B, K, H, W)
            coefficients, strided or sparse_coo.

    Raises:
        TensorError: an argument has the wrong shape, type or range, or is not finite.
    """
    check_images(highpass, dictionary.channels, dictionary.side)
    if not 0 < lmbda < float("inf"):
        raise TensorError("lambda out of range", expected="a positive number", got=lmbda)
    check_method(method)
    name = choose_method(highpass.dtype, highpass.device) if method == "auto" else method
    with torch.no_grad():
        s = highpass.detach().contiguous()
        first = None if start is None else _coefficients(start, s, len(dictionary.filters))
        return METHODS[name](s, dictionary, lmbda, tolerances(accuracy), first)


def choose_method(dtype: torch.dtype, device: torch.device) -> str:
    """The method of "auto": the fastest for signals of this type on this device.

    Warns once per process where the native core would be faster but was not built.
    """
    if dtype != torch.float32:
        return "admm"
    if device.type == "cpu":
        if native.available():
            return "active_set"
        _warn_of_missing_core()
    elif device.type == "cuda" and fused.available():
        return "fused"
    return "admm"


@cache
def _warn_of_missing_core() -> None:
    warnings.warn(
        "the native core is not built: projections on the CPU go by ADMM, more than ten times slower than they could; "
        "install a C++ compiler and reinstall stl-ray",
        RuntimeWarning,
        stacklevel=4,
    )


def _coefficients(start: Codes | Tensor, signal: Tensor, filters: int) -> Tensor:
    """The checked coefficients of `start`, (B, K, H, W), in the signal's type and on its device.

    Raises:
        TensorError: they are of another shape or not finite.
    """
    coefficients = (start.coefficients if isinstance(start, Codes) else start).detach()
    shape = (signal.shape[0], filters, *signal.shape[2:])
    if coefficients.shape != shape:
        raise TensorError("start of another shape", expected=shape, got=tuple(coefficients.shape))
    coefficients = coefficients.to(signal.device, signal.dtype)
    if coefficients.is_sparse:
        coefficients = coefficients.coalesce()
    values = coefficients.values() if coefficients.is_sparse else coefficients
    if not bool(values.isfinite().all()):
        raise TensorError("a start that is not finite", expected="finite coefficients", got="NaN or infinity")
    return coefficients


def check_method(method: str) -> None:
    """Refuse a method that is neither "auto" nor a name of METHODS.

    Raises:
        TensorError: the method is unknown; the message lists the known ones.
    """
    require_known(method, ("auto", *METHODS), kind="method", error=TensorError)


def tolerances(accuracy: str | Accuracy) -> Accuracy:
    """The tier of that name, or the tolerances themselves.

    Raises:
        TensorError: there is no such tier.
    """
    if isinstance(accuracy, Accuracy):
        return accuracy
    require_known(accuracy, ACCURACIES, kind="accuracy", error=TensorError)
    return ACCURACIES[accuracy]


def check_images(images: Tensor, channels: int, side: int) -> None:
    """Refuse all but a non-empty finite (B, channels, H, W) batch in float32 or float64, H and W >= side.

    Raises:
        TensorError: the images are anything else.
    """
    if not isinstance(images, Tensor):
        raise TensorError("images of another kind", expected="torch.as_tensor of them", got=type(images).__name__)
    if images.dim() != 4 or images.shape[0] == 0 or images.shape[1] != channels:
        raise TensorError("images of another shape", expected=f"(B >= 1, {channels}, H, W)", got=tuple(images.shape))
    if images.dtype not in (torch.float32, torch.float64):
        raise TensorError("images of another type", expected="float32 or float64", got=images.dtype)
    if min(images.shape[2:]) < side:
        expected, got = f"sides of at least {side}", f"{images.shape[2]} x {images.shape[3]}"
        raise TensorError("images smaller than the filters", expected=expected, got=got)
    # NaN anywhere makes both extremes NaN; a mask of all pixels takes six times as long.
    if not bool(torch.stack(torch.aminmax(images.detach())).isfinite().all()):
        raise TensorError("images that are not finite", expected="finite pixels", got="NaN or infinity")

"""A look at defenses before any work: whether each can do with the images and classifiers at hand.

Of a user's own also whether it keeps what it promises: one that sees an image's batch mates, draws without its seed or names a
gradient that it does not have would give figures all the same, and wrong ones.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from stl_ray.defenses.base import Defense, deployed_seeds
from stl_ray.defenses.own import OwnTransformation
from stl_ray.defenses.purified import Purified
from stl_ray.errors import GradientError, StlRayError, TensorError
from stl_ray.images import quantize
from stl_ray.models import Victim
from stl_ray.text import said

LARGEST_ERROR = 0.05
"""Largest relative error of a gradient that is declared exact against finite differences, in the better of two directions."""

STEP = 2e-5
"""Step of the finite differences over the image's norm: above float32 rounding, and few kinks are met."""

OFF_GRID = 0.8 / 255
"""Width of the noise by which images leave the 8-bit grid for them: there many neighbours are equal, a median's kink."""


def look(defense: Defense, classifiers: Mapping[str, Victim], images: Tensor, *, item: str) -> None:
    """Put one image through a defense and every classifier behind it; a user's own meets more, `_require_sound`.

    Args:
        defense: to look at; of an ensemble the first view, since its members are defenses themselves.
        classifiers: that stand behind it, by name, in eval mode.
        images: (B, 3, H, W) float32 in [0, 1] on the 8-bit grid, B >= 1, on the defense's device.
        item: its name, for messages.

    Raises:
        StlRayError: it cannot do with the image, or not with a classifier, which is named beside it.
    """
    view, seeds = defense.views[0], deployed_seeds(0, ["look"])
    with _named(item):
        if isinstance(defense, OwnTransformation):
            _require_sound(defense, images)
        seen = quantize(view.purify(images[:1], seeds=seeds).images.nan_to_num())
    for name, classifier in classifiers.items():
        with _named(f"{item} in front of {name}"):
            defense.network(classifier, seeds).logits(seen)


@contextmanager
def _named(item: str) -> Iterator[None]:
    """Put what is looked at in front of an error's own item; whatever else is raised becomes an error about it."""
    try:
        yield
    except StlRayError as error:
        where = item if error.item is None else f"{item}: {error.item}"
        raise type(error)(error.message, item=where, expected=error.expected, got=error.got) from error
    except Exception as error:
        raise TensorError(f"fails on an image ({said(error)})", item=item) from error


def _require_sound(defense: OwnTransformation, few: Tensor) -> None:
    """Refuse a user's own transformation that breaks its promises on some images, plain ones and noise.

    Raises:
        TensorError: an image of it is not finite or not in [0, 1], depends on the other images or on the call; or it changes
            its input or the state of random numbers that all share.
        GradientError: a gradient that it declares exact is cut off, not finite, zero for every image, or not its derivative.
    """
    noise = torch.rand(few[:1].shape, generator=torch.Generator().manual_seed(0)).to(few)
    images = torch.cat([few, torch.zeros_like(few[:1]), torch.ones_like(few[:1]), quantize(noise)])
    seeds = deployed_seeds(0, [str(number) for number in range(len(images))])
    given, state = images.clone(), _random_state(images)
    purified = defense.purify(given, seeds=seeds)
    if not torch.equal(given, images):
        raise TensorError("it changes its images in place", item=defense.name, expected="one that leaves them alone")
    if _random_state(images) != state:
        raise TensorError(
            "it changes the state of random numbers that all share", item=defense.name,
            expected="torch.Generator().manual_seed(seed), with the image's own seed, where it draws",
        )  # fmt: skip
    _require_images(defense, purified, images, seeds)
    _require_same(defense, purified, defense.purify(images, seeds=seeds), "from call to call")
    if not defense.randomised:
        others = [seed + 1 for seed in seeds]
        _require_same(
            defense, purified, defense.purify(images, seeds=others), "with the seed, and it is not `randomised`"
        )
    for row in (0, len(images) - 1):
        alone = defense.purify(images[row : row + 1], seeds=seeds[row : row + 1])
        _require_same(defense, purified, alone, "with the other images of the batch", row)
    if "exact" in defense.gradients:
        _require_derivative(defense, few, seeds[: len(few)])


def _random_state(images: Tensor) -> tuple[object, ...]:
    """What torch, NumPy and Python draw from where nothing else is said."""
    devices = [torch.cuda.get_rng_state(images.device)] if images.is_cuda else []
    states = [bytes(state.numpy()) for state in (torch.get_rng_state(), *devices)]
    return (*states, repr(np.random.get_state(legacy=False)), random.getstate())  # noqa: NPY002


def _require_images(defense: OwnTransformation, purified: Purified, images: Tensor, seeds: list[int]) -> None:
    if not bool(purified.diverged.any()):
        return
    made = defense.inner.purify(images, seeds=seeds).images
    finite = bool(made.isfinite().all())
    got = f"{float(made.min()):.4g} to {float(made.max()):.4g}" if finite else "NaN or infinity"
    raise TensorError(
        "it makes images that are none (of some of the test images, black, white or noise)", item=defense.name,
        expected="finite values in [0, 1]", got=got,
    )  # fmt: skip


def _require_same(
    defense: OwnTransformation, first: Purified, second: Purified, how: str, row: int | None = None
) -> None:
    expected = first.images if row is None else first.images[row : row + 1]
    if not torch.equal(expected, second.images):
        gap = float((expected - second.images).abs().max())
        raise TensorError(
            f"its images change {how}", item=defense.name, expected="the same bytes", got=f"values {gap:.1g} apart"
        )


def _require_derivative(defense: OwnTransformation, images: Tensor, seeds: list[int]) -> None:
    """Hold the gradient `exact` against finite differences along two directions."""
    generator = torch.Generator().manual_seed(0)

    def drawn(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    noise = (torch.rand(images.shape, generator=generator) - 0.5).to(images)
    images = (0.98 * images + 0.01 + noise * OFF_GRID).clamp(0, 1)
    certified, v = defense.certified(), drawn(images)
    try:
        _, pullback = certified.linearised("exact")(images, seeds)
        gradient = pullback(v)
    except StlRayError as error:
        raise GradientError(f"it has no exact gradient ({error.message})", item=defense.name) from error
    except Exception as error:
        raise GradientError(f"it has no exact gradient ({said(error)})", item=defense.name) from error
    if not bool(gradient.isfinite().all()):
        raise GradientError("its exact gradient is not finite", item=defense.name, expected="finite numbers")
    if not bool(gradient.any()):
        raise GradientError(
            "its exact gradient is zero for every image that was tried (does it round?)", item=defense.name,
            expected="a gradient, or none that is called exact",
        )  # fmt: skip

    def error_along(noise: Tensor) -> float:
        # Half along the gradient: the effect of a random direction is small.
        direction = _unit(_unit(gradient) + _unit(noise))
        step = STEP * float(images.norm())
        moved = (images + sign * step * direction for sign in (1, -1))
        ahead, behind = (certified.purify(one, seeds=seeds).images for one in moved)
        measured = float(((ahead - behind) * v).sum().double() / (2 * step))
        predicted = float((gradient * direction).sum().double())
        return abs(measured - predicted) / (max(abs(measured), abs(predicted)) or 1.0)

    away = min(error_along(drawn(images)) for _ in range(2))
    if not away <= LARGEST_ERROR:
        raise GradientError(
            "the gradient that it calls exact is not its derivative", item=defense.name,
            expected=f"within {LARGEST_ERROR:.0%} of finite differences", got=f"{away:.0%} away",
        )  # fmt: skip


def _unit(images: Tensor) -> Tensor:
    return images / float(images.norm())

"""Defenses of a user's own: `module:function`, where the function takes the options and returns what transforms images.

It returns a function or torch module, images (B, 3, H, W) float32 in [0, 1] -> images of the same shape, type and range, every one
from its own alone. Two attributes of what it returns, True or False, say more of it:

exact         it is made of torch's operations, and autograd's gradient is its Jacobian: the gradient `exact`, else `bpda`
randomised    it is called with (images, seeds) and draws every image's random numbers from the seed in its row

or a `Transformation`, for whatever has a solver or a gradient of its own. What it makes is checked: `look` before any work, and
every image as it comes. The source is part of what a defense is, as of a user's classifier (`models/functions.py`).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from stl_ray.config import Gradient
from stl_ray.defenses.base import Defense, Linearised, Transformation, require_gradient
from stl_ray.defenses.by_autograd import TransformationByAutograd
from stl_ray.defenses.options import DefenseOptions
from stl_ray.defenses.purified import DIVERGED, Purified
from stl_ray.errors import ConfigError, StlRayError, TensorError
from stl_ray.models import module_digest, seeded, source_digest, tile_size
from stl_ray.models.functions import function_of, require_weights
from stl_ray.text import said
from stl_ray.tiling import in_tiles

HALF_A_LEVEL = 0.5 / 255
"""What an image may lie outside [0, 1]: it is stored as if it did not."""


def own_defense(reference: str, options: DefenseOptions) -> "OwnTransformation":
    """What `module:function` returns for these options; torch's generator stands at a seed when it is called, and is restored.

    Raises:
        ConfigError: there is no such function, it fails, or returns no transformation; or what it says of itself is no JSON.
    """
    function = function_of(reference)
    arguments = {name: getattr(options, name) for name in type(options).model_fields}
    try:
        made = seeded(lambda: function(**arguments), 0)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"fails with these options ({said(error)})", item=reference, got=arguments) from error
    inner = _transformation(reference, made)
    try:
        own: dict[str, Any] = {"options": options.model_dump(mode="json"), "made": inner.identity()}
        json.dumps(own, allow_nan=False)
    except Exception as error:
        raise ConfigError(f"its options and identity are no JSON ({said(error)})", item=reference) from error
    return OwnTransformation(reference, own, inner)


def _transformation(reference: str, made: object) -> Transformation:
    if isinstance(made, Transformation):
        return made
    if isinstance(made, Defense) or not callable(made):
        raise ConfigError(
            "returns nothing that transforms images", item=reference,
            expected="a function of images, a torch.nn.Module or a stl_ray.defenses.Transformation (for another network see "
            "robust_classifier, for several views ensemble)", got=type(made).__name__,
        )  # fmt: skip
    if isinstance(made, nn.Module):
        require_weights(made.eval(), reference)
    return _Function(reference, made, _declared(reference, made, "exact"), _declared(reference, made, "randomised"))


def _declared(reference: str, made: object, name: str) -> bool:
    value = getattr(made, name, False)
    if not isinstance(value, bool):
        raise ConfigError(
            "says nothing of what it returns", item=f"{reference}.{name}", expected="True or False", got=repr(value)
        )
    return value


class _Function(TransformationByAutograd):
    """A plain function, called with tiles of one size, so that kernels are not chosen by the number of images."""

    def __init__(self, name: str, function: Callable[..., object], exact: bool, randomised: bool) -> None:
        self.name, self.randomised = name, randomised
        self.gradients = ("exact", "bpda") if exact else ("bpda",)
        self._function = function

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`: the weights of a module; all else is in the source."""
        return {"weights": module_digest(self._function)} if isinstance(self._function, nn.Module) else {}

    def transformed(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """See `TransformationByAutograd.transformed`."""
        if isinstance(self._function, nn.Module):
            self._function.to(images.device)

        def of_tile(tile: Tensor, rows: Tensor) -> tuple[Tensor]:
            drawn = [[seeds[row] for row in rows.tolist()]] if self.randomised else []
            # A copy, which it may change: only some tiles are copies already.
            return (_like(self._function(tile.clone(), *drawn), tile, self.name),)

        size = tile_size(images.shape[-2], images.shape[-1], images.device)
        with torch.autocast(images.device.type, enabled=False):
            return in_tiles(of_tile, images, torch.arange(len(images)), size=size)[0]


@dataclass(frozen=True)
class OwnTransformation(Transformation):
    """A transformation of a user's own, whose images are checked as they come.

    Args:
        name: its reference, `module:function`.
        own: its options, and the identity of what was made with them.
        inner: what was made.
    """

    name: str
    own: dict[str, Any]
    inner: Transformation

    @property
    def randomised(self) -> bool:  # type: ignore[override]
        """As of what was made."""
        return self.inner.randomised

    @property
    def gradients(self) -> tuple[Gradient, ...]:  # type: ignore[override]
        """As of what was made."""
        return self.inner.gradients

    @property
    def iterative(self) -> bool:  # type: ignore[override]
        """As of what was made."""
        return self.inner.iterative

    @property
    def routes(self) -> int:  # type: ignore[override]
        """As of what was made."""
        return self.inner.routes

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, **self.own, "source": {self.name: source_digest(self.name)}}

    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """See `Transformation.purify`; an image that is not finite or not in [0, 1] is lost, as one whose solve diverged.

        Raises:
            TensorError: it fails, or returns something else than images.
        """
        with self._named(images):
            purified = self.inner.purify(images, seeds=seeds, exclude=exclude)
            made, lost = _within(_like(purified.images.detach(), images, self.name))
        status = [DIVERGED if one else known for one, known in zip(lost.tolist(), purified.status, strict=True)]
        return replace(purified, images=made, status=status)

    def linearised(self, gradient: Gradient) -> Linearised:
        """See `Transformation.linearised`."""
        require_gradient(self, gradient)
        linearised = self.inner.linearised(gradient)

        def checked(images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            with self._named(images):
                made, pullback = linearised(images, seeds)
                return _within(_like(made, images, self.name))[0], pullback

        return checked

    def certified(self) -> "OwnTransformation":
        """See `Defense.certified`."""
        return replace(self, inner=self.inner.certified()) if self.iterative else self

    def routed_to(self, route: int) -> "OwnTransformation":
        """See `Defense.routed_to`."""
        routed = self.inner.routed_to(route)
        if not isinstance(routed, Transformation):
            raise TensorError("no transformation on that route", item=self.name, got=type(routed).__name__)
        return replace(self, inner=routed)

    @contextmanager
    def _named(self, images: Tensor) -> Iterator[None]:
        """Whatever it raises as an error with its name."""
        try:
            yield
        except StlRayError:
            raise
        except Exception as error:
            raise TensorError(f"fails on {tuple(images.shape)} images ({said(error)})", item=self.name) from error


def _like(made: object, images: Tensor, name: str) -> Tensor:
    """What was made of images, if it has their shape, type and device.

    Raises:
        TensorError: it has not.
    """
    if isinstance(made, Tensor) and _described(made) == _described(images):
        return made
    got = _described(made) if isinstance(made, Tensor) else type(made).__name__
    raise TensorError("it makes no images of images", item=name, expected=_described(images), got=got)


def _described(images: Tensor) -> str:
    return f"{tuple(images.shape)} {str(images.dtype).removeprefix('torch.')} on {images.device}"


def _within(images: Tensor) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) clipped to [0, 1], those without finite values there NaN; and which these are, (B,) bool."""
    inside = (images >= -HALF_A_LEVEL) & (images <= 1 + HALF_A_LEVEL)
    lost = ~inside.flatten(1).all(1)
    return images.clamp(0, 1).masked_fill(lost[:, None, None, None], torch.nan), lost

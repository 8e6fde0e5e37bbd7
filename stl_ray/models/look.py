"""A look at a model before any work: whether its answers and gradients are such as attacks and scores can use.

A model that answers by the batch, at random, or without a gradient would give figures all the same, and wrong ones.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from stl_ray.errors import GradientError, StlRayError, TensorError
from stl_ray.models.protocol import Victim
from stl_ray.text import said

Answer = TypeVar("Answer")

IMAGES = 4
"""Images that are enough to look with."""

_GAP = 1e-3
"""Largest difference of two answers that should be one, over the spread of the logits; that of the check H11."""


def look(victim: Victim, images: Tensor, classes: int, *, item: str, gradient: bool = True) -> list[str]:
    """Ask a model about a few images, alone and beside others, twice, and for its gradient.

    Args:
        victim: the model, in eval mode.
        images: (B, 3, H, W) float32 in [0, 1], B >= 1; `IMAGES` will do.
        classes: of the model.
        item: the model, for messages.
        gradient: whether its gradient is needed; where it is not, one that is of no use is a remark.

    Returns:
        Remarks on what works and may not be meant, a sentence each.

    Raises:
        TensorError: the model fails, its answers are no finite logits of the classes (where its gradient is needed: are
            probabilities), or they depend on other images in the batch or on the call; or it changes its images.
        GradientError: its gradient is cut off, not finite, or zero for every image.
    """
    given = torch.cat([images, images])
    before = given.clone()
    answer = asked(victim.logits, given, item)
    if not torch.equal(given, before):
        raise TensorError("the model changes its images in place", item=item, expected="a model that leaves them alone")
    if answer.dim() != 2 or answer.shape != (len(given), classes):
        expected, got = f"({len(given)}, {classes}): images, classes", tuple(answer.shape)
        raise TensorError("the model's answer is not the logits of the classes", item=item, expected=expected, got=got)
    if not bool(answer.isfinite().all()):
        raise TensorError("the model's logits are not finite", item=item, expected="finite numbers")
    answer = answer[: len(images)]
    _require_same(
        answer, asked(victim.logits, given, item)[: len(images)], "from call to call (dropout, random draws?)", item
    )
    mates = torch.cat([images, 1 - images])
    by_batch = "with the other images of the batch (BatchNorm without running statistics?)"
    _require_same(answer, asked(victim.logits, mates, item)[: len(images)], by_batch, item)
    remarks = []
    if classes > 1 and bool((answer >= 0).all()) and bool((answer.sum(1) - 1).abs().max() < _GAP):
        error = TensorError(
            "the model's answers are probabilities, through whose softmax gradients vanish where it is sure",
            item=item, expected="logits, so the model without its softmax",
        )  # fmt: skip
        if gradient:
            raise error
        remarks.append(str(error))
    for kind in (torch.bfloat16, torch.float16):
        if bool(answer.any()) and torch.equal(answer.to(kind).to(answer), answer):
            remarks.append(
                f"{item}: its logits are of {str(kind).removeprefix('torch.')}'s precision; they are taken as float32"
            )
            break
    try:
        remarks += _gradient(victim, images, item)
    except GradientError as error:
        if gradient:
            raise
        remarks.append(str(error))
    return remarks


def asked(ask: Callable[[Tensor], Answer], images: Tensor, item: str) -> Answer:
    """What a model says of some images.

    Raises:
        TensorError: it fails; the message says how.
    """
    try:
        return ask(images)
    except StlRayError:
        raise
    except Exception as error:
        raise TensorError(f"the model fails on {tuple(images.shape)} images ({said(error)})", item=item) from error


def _require_same(first: Tensor, second: Tensor, how: str, item: str) -> None:
    spread = float(first.max() - first.min()) or float(first.abs().max())
    gap = float((first - second).abs().max())
    if not gap <= _GAP * spread:
        got = f"answers {gap:.1g} apart, of a spread of {spread:.1g}"
        raise TensorError(
            f"the model's answers change {how}", item=item, expected="answers to the image alone", got=got
        )


def _gradient(victim: Victim, images: Tensor, item: str) -> list[str]:
    """A remark where some images have no gradient of the difference between the two likeliest classes."""

    def between(logits: Tensor) -> Tensor:
        likeliest = logits.topk(min(2, logits.shape[1]), dim=1).indices
        signs = torch.tensor([[1.0, -1.0]], device=logits.device)[:, : likeliest.shape[1]]
        return torch.zeros_like(logits).scatter(1, likeliest, signs.expand(len(logits), -1))

    try:
        _, product = victim.logits_and_vjp(images, between)
    except StlRayError:
        raise
    except Exception as error:
        raise GradientError(f"the model has no gradient ({said(error)})", item=item) from error
    if not bool(product.isfinite().all()):
        raise GradientError("the model's gradient is not finite", item=item, expected="finite numbers")
    zero = int((product == 0).flatten(1).all(1).sum())
    if zero == len(images):
        raise GradientError(
            "the model's gradient is zero for every image that was tried (does it round its input, or the answer?)",
            item=item, expected="a gradient, or an attack that needs none",
        )  # fmt: skip
    return [f"{item}: its gradient is zero for {zero} of {len(images)} images that were tried"] if zero else []

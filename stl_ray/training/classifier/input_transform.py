"""A defense as a layer in front of a classifier, while that is trained: T with a gradient."""

from typing import Any, Literal

from torch import Tensor, nn
from torch.autograd import Function

from stl_ray.defenses import Defense
from stl_ray.defenses.stl import SparseTransformation
from stl_ray.space import SparseTransformationLayer


def front_of(defense: Defense, gradient: Literal["exact", "bpda"]) -> nn.Module:
    """The layer of a defense, images (B, 3, H, W) in [0, 1] to what a classifier sees of them, before rounding.

    Args:
        defense: what stands before the classifier.
        gradient: of an STL projection; every other defense has the identity's (BPDA, Athalye et al. 2018).
    """
    if isinstance(defense, SparseTransformation):
        config = defense.config
        return SparseTransformationLayer(
            defense.space, gradient, config.accuracy, method=config.method, normalization=config.normalization
        )
    return _Straight(defense)


class _Straight(nn.Module):
    def __init__(self, defense: Defense) -> None:
        super().__init__()
        self.defense = defense

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = _Identity.apply(images, self.defense.purify(images.detach()).images)
        return output


class _Identity(Function):
    """The second argument, with the identity's gradient to the first."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, purified: Tensor) -> Tensor:
        return purified.clone()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        return cotangents[0], None

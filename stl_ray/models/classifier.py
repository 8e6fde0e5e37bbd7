"""A classifier: a network with its normalisation inside, so that its images are always in [0, 1]."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from stl_ray.errors import GradientError, StlRayError, TensorError
from stl_ray.models.answers import as_logits
from stl_ray.models.inference_mode import without_inference

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Classifier(nn.Module):
    """A backbone behind per-channel normalisation; a `Victim` in eval mode.

    Args:
        backbone: maps normalised (B, 3, H, W) images to (B, n) logits, or to an object that has them as `logits`; it sees
            images in the type of its weights.
        architecture: the backbone's name in the registry.
        class_names: the n classes, in the order of the logits.
        mean: per-channel mean that is subtracted from images in [0, 1].
        std: per-channel standard deviation that they are divided by.
        channels_last: on a CPU, `logits` and products give the backbone images with the channels of a pixel side by
            side, which takes a convolutional network about a tenth less time; False for a backbone that may need the
            usual layout.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        architecture: str,
        class_names: Sequence[str],
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.architecture = architecture
        self.class_names = tuple(class_names)
        self.channels_last = channels_last
        self.mean: Tensor
        self.std: Tensor
        # Not persistent: they are metadata of a checkpoint, and its tensors are the backbone's state dict.
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, n), in the images' type, of `images` (B, 3, H, W) RGB in [0, 1].

        Raises:
            TensorError: the images have another shape, or the backbone's answer is not their logits.
        """
        if images.dim() != 4 or images.shape[1] != 3:
            raise TensorError("a classifier sees RGB batches", expected="(B, 3, H, W)", got=tuple(images.shape))
        seen = (images - self.mean) / self.std
        weight = next(self.backbone.parameters(), None)
        if weight is not None and weight.is_floating_point():
            seen = seen.to(weight.dtype)  # of a network of 16 or 64 bits
        logits = as_logits(self.backbone(seen), len(images), len(self.class_names), self.architecture)
        return logits.to(images.dtype)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, n) without a graph; see `Victim`.

        Raises:
            StlRayError: the classifier is in training mode, where an answer depends on the batch.
        """
        self._require_eval()
        with torch.no_grad():
            return self(self._laid_out(images))  # type: ignore[no-any-return]

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, n) and J^T cotangent(logits) (B, 3, H, W); see `Victim`.

        Raises:
            StlRayError: the classifier is in training mode, where an answer depends on the batch.
            GradientError: the backbone cuts its gradient off.
        """
        self._require_eval()
        with torch.inference_mode(mode=False), torch.enable_grad():
            leaf = self._laid_out(without_inference(images).detach()).requires_grad_()
            logits = self(leaf)
            answer = logits.detach()
            product = self._pulled(logits, leaf, cotangent(answer))
        return answer, product.contiguous()

    def logits_and_vjps(self, images: Tensor, cotangents: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, n) and products (R, B, 3, H, W) of cotangents (R, B, n); see `ManyProducts`.

        Raises:
            StlRayError: the classifier is in training mode, where an answer depends on the batch.
            GradientError: the backbone cuts its gradient off.
        """
        self._require_eval()
        with torch.inference_mode(mode=False), torch.enable_grad():
            leaf = self._laid_out(without_inference(images).detach()).requires_grad_()
            logits = self(leaf)
            answer = logits.detach()
            products = [self._pulled(logits, leaf, v, again=True) for v in cotangents(answer)]
        return answer, torch.stack(products).contiguous()

    def _pulled(self, logits: Tensor, leaf: Tensor, cotangent: Tensor, *, again: bool = False) -> Tensor:
        """J^T cotangent; autograd.grad computes no weight gradients and leaves stored ones alone."""
        product = None
        if logits.requires_grad:
            (product,) = torch.autograd.grad(logits, leaf, cotangent, retain_graph=again, allow_unused=True)
        if product is None:
            message = "the model's gradient is cut off before its images (torch.no_grad or detach in it?)"
            raise GradientError(message, item=self.architecture)
        return product

    def _require_eval(self) -> None:
        if self.training:
            raise StlRayError("the classifier is in training mode; call eval() first", item=self.architecture)
        if any(module.training for module in self.modules()):
            name = next(name for name, module in self.named_modules() if module.training).removeprefix("backbone.")
            raise StlRayError(f"its {name} stays in training mode after eval()", item=self.architecture)

    def _laid_out(self, images: Tensor) -> Tensor:
        if self.channels_last and images.device.type == "cpu" and images.dim() == 4:
            return images.contiguous(memory_format=torch.channels_last)
        return images

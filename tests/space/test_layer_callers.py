"""Callers that the layer cannot serve are told what to do."""

import pytest
import torch
from torch import Tensor

from stl_ray.errors import GradientError, TensorError
from stl_ray.space import SparseTransformationLayer


@pytest.mark.parametrize("gradient", ["exact", "bpda", "none"])
def test_refuses_transforms_of_torch_func_and_arrays(space, natural_images: Tensor, gradient: str) -> None:
    layer, images = SparseTransformationLayer(space, gradient), natural_images[:2]
    transforms = [
        torch.func.grad(lambda batch: layer(batch).sum()),
        torch.func.jacrev(layer),
        torch.func.vmap(lambda image: layer(image[None])),
    ]
    for transform in transforms:
        with pytest.raises(GradientError, match=r"torch\.func"):
            transform(images)
    with pytest.raises(TensorError, match="as_tensor"):
        layer(images.numpy())

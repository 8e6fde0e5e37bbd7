"""The image record: its schema, its bytes, its tensors, and the readers of every source of images.

Stored images are uint8 RGB (H, W, 3); batches are float32 RGB (B, 3, H, W) in [0, 1]. `quantize` is the one place
where 8-bit rounding is defined. The functions on tensors are loaded at their first use: a worker that decodes needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from stl_ray.images.codec import MIN_SIDE, decode, decode_original, encode_png, pixel_digest, resize
from stl_ray.images.schema import PIXEL_DIGEST, ImageKind, class_names_of, features_of, image_schema

if TYPE_CHECKING:
    from stl_ray.images.tensors import from_uint8, quantize, snapped, to_tensor, to_uint8

__all__ = [
    "MIN_SIDE",
    "PIXEL_DIGEST",
    "ImageKind",
    "class_names_of",
    "decode",
    "decode_original",
    "encode_png",
    "features_of",
    "from_uint8",
    "image_schema",
    "pixel_digest",
    "quantize",
    "resize",
    "snapped",
    "to_tensor",
    "to_uint8",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("stl_ray.images.tensors"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

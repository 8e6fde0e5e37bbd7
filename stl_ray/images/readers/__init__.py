"""Sources of images, one file per format, behind `open_reader`: classes, a plan of shards, raw images.

Readers neither decode nor judge pixels. They report what only the source can tell: an image without bytes, a label
without a class, a repeated id.
"""

from stl_ray.images.readers.base import RawImage, Reader, SourceShard
from stl_ray.images.readers.left_out import LeftOut
from stl_ray.images.readers.names import require_text
from stl_ray.images.readers.registry import open_reader

__all__ = ["LeftOut", "RawImage", "Reader", "SourceShard", "open_reader", "require_text"]

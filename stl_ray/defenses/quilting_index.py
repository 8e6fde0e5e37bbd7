"""Nearest patches as the published code of image quilting looks for them: approximately, with faiss.

Of patches in [0, 1], the first 64 principal components, rotated at random; 200 lists, of which a query looks at 5; distances
by a product quantiser of 16 parts with 8 bits each (Guo et al. 2018, `index_patches.py`). Faiss trains it from seeds of its
own, so that an index comes of its patches and faiss' version.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.errors import ConfigError, TrainingError
from stl_ray.tiling import in_tiles

COMPONENTS, LISTS, PARTS, BITS, PROBES = 64, 200, 16, 8, 5

SMALLEST = 2**BITS
"""Patches that a quantiser can be trained on."""

TILE = 256
"""Queries of a search: faiss multiplies matrices, whose last bits depend on their shape."""


def faiss() -> Any:
    """The package.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import faiss as package
    except ImportError as error:
        raise ConfigError(
            "faiss is not installed", item="quilting.search", expected="pip install 'stl-ray[quilting]'"
        ) from error
    return package


def build_index(patches: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The index of patches (N, 75), as bytes.

    Raises:
        TrainingError: there are too few of them.
        ConfigError: faiss is not installed.
    """
    if len(patches) < SMALLEST:
        raise TrainingError(
            "too few patches for an index", item="quilting", expected=f">= {SMALLEST}", got=len(patches)
        )
    package, points = faiss(), _points(patches)
    lists = package.IndexIVFPQ(package.IndexFlatL2(COMPONENTS), COMPONENTS, LISTS, PARTS, BITS)
    components = package.PCAMatrix(points.shape[1], COMPONENTS, 0, True)
    index = package.IndexPreTransform(components, lists)
    index.train(points)
    index.add(points)
    stored: NDArray[np.uint8] = package.serialize_index(index)
    return stored


class PatchIndex:
    """Searches an index.

    Args:
        stored: as `build_index` makes it.

    Raises:
        ConfigError: faiss is not installed.
    """

    def __init__(self, stored: NDArray[np.uint8]) -> None:
        package = faiss()
        self._index = package.deserialize_index(stored)
        package.extract_index_ivf(self._index).nprobe = PROBES

    def nearest(self, queries: Tensor, k: int) -> Tensor:
        """The `k` patches (Q, k) that seem nearest to queries (Q, 75) of levels; -1 where the lists have no more."""

        def search(tile: Tensor) -> tuple[Tensor]:
            return (torch.from_numpy(self._index.search(_points(tile.numpy()), k)[1]),)

        return in_tiles(search, queries.cpu(), size=TILE)[0].to(queries.device)


def _points(levels: NDArray[Any]) -> NDArray[np.float32]:
    return levels.astype(np.float32) / np.float32(255)

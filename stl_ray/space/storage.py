"""The parts of a space, and the space as an artifact: safetensors and a JSON record of format "space", version 2. No pickle.

Arrays: `universal` (K, C, S, S) and `dictionaries` (M, K, C, S, S), RGB; with a router also `pca_mean`,
`pca_components`, `centroids`, `reference_latents`, `reference_clusters`, `reference_ids` and `autoencoder.<parameter>`;
where there are sample images `samples`.
The record: lmbda of the projection, the norm convention and lambda of every dictionary, resolution, the router's side,
neighbours and cluster sizes (null without one), digest of the content and of the unclustered space of the universal
dictionary, provenance.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from stl_ray.csc import Dictionary
from stl_ray.errors import ArtifactError, StlRayError
from stl_ray.space.autoencoder import Autoencoder
from stl_ray.space.clusters import ClusterModel
from stl_ray.space.router import Router
from stl_ray.store import load_artifact, save_artifact

KIND, VERSION = "space", 2

_PREFIX = "autoencoder."
_ROUTER = ("side", "neighbours", "sizes")


@dataclass(frozen=True, eq=False)
class SpaceParts:
    """The parts of a space.

    Attributes:
        universal_dictionary: learned on all clusters together.
        dictionaries: one for each cluster; (universal_dictionary,) where there is no router.
        lmbda: the l1 weight of the projection.
        router: picks the cluster of an image.
        resolution: pixels; side of the images it was learned from, where known.
        provenance: JSON-able record of how it was made.
        samples: (M, n, 3, side, side) uint8, thumbnails of the training images nearest to each centroid, to look at.
    """

    universal_dictionary: Dictionary
    dictionaries: tuple[Dictionary, ...]
    lmbda: float
    router: Router | None = None
    resolution: int | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    samples: Tensor | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that can change a projection; samples and provenance cannot."""
        content = hashlib.sha256(repr(sorted(_settings(self).items())).encode())
        for name, array in sorted(_arrays(self).items()):
            content.update(f"{name}{array.dtype.str}{array.shape}".encode())
            content.update(array.tobytes())
        return content.hexdigest()

    def universal(self) -> Self:
        """The unclustered space of the universal dictionary: the paper's "STL" beside its "STL (cluster)"."""
        return replace(self, dictionaries=(self.universal_dictionary,), router=None, samples=None)


def save_parts(space: SpaceParts, uri: str) -> str:
    """Write a space to a folder and return the artifact's digest."""
    record = {
        **_settings(space),
        **(dict.fromkeys(_ROUTER) if space.router is None else router_record(space.router)),
        "resolution": space.resolution,
        "content_digest": space.digest,
        "universal_digest": space.universal().digest,
        "provenance": dict(space.provenance),
    }
    arrays = _arrays(space)
    if space.samples is not None:
        arrays |= _numpy({"samples": space.samples})
    return save_artifact(uri, KIND, VERSION, arrays, record)


def load_parts(uri: str) -> SpaceParts:
    """The parts of the space in a folder.

    Raises:
        ArtifactError: it is missing, unreadable, altered, of another version, or its parts do not fit together.
    """
    artifact = load_artifact(uri, KIND, VERSION)
    arrays, meta = artifact.arrays, artifact.meta
    try:
        norm = meta["norm"]
        universal = Dictionary(_tensor(arrays["universal"]), meta["universal_lmbda"], norm)
        dictionaries = tuple(
            Dictionary(_tensor(filters), lmbda, norm)
            for filters, lmbda in zip(arrays["dictionaries"], meta["dictionary_lmbdas"], strict=True)
        )
        return SpaceParts(
            universal_dictionary=universal,
            dictionaries=dictionaries,
            lmbda=meta["lmbda"],
            router=None if meta["neighbours"] is None else router_from(arrays, meta),
            resolution=meta["resolution"],
            provenance=meta["provenance"],
            samples=_tensor(arrays["samples"]) if "samples" in arrays else None,
        )
    except (KeyError, TypeError, ValueError, RuntimeError, StlRayError) as error:
        raise ArtifactError(f"the parts of the space do not fit together ({error})", item=uri) from error


def _settings(space: SpaceParts) -> dict[str, Any]:
    return {
        "lmbda": space.lmbda,
        "norm": space.universal_dictionary.norm,
        "universal_lmbda": space.universal_dictionary.lmbda,
        "dictionary_lmbdas": [dictionary.lmbda for dictionary in space.dictionaries],
        "neighbours": None if space.router is None else space.router.neighbours,
    }


def _arrays(space: SpaceParts) -> dict[str, np.ndarray[Any, Any]]:
    tensors = {
        "universal": space.universal_dictionary.filters,
        "dictionaries": torch.stack([dictionary.filters for dictionary in space.dictionaries]),
    }
    arrays = _numpy(tensors)
    return arrays if space.router is None else {**arrays, **router_arrays(space.router)}


def router_arrays(router: Router) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a router."""
    clusters = router.clusters
    tensors = {
        "pca_mean": clusters.mean,
        "pca_components": clusters.components,
        "centroids": clusters.centroids,
        "reference_latents": clusters.latents,
        "reference_clusters": clusters.labels,
        "reference_ids": router.reference_ids,
    }
    weights = {_PREFIX + name: value for name, value in router.autoencoder.state_dict().items()}
    return _numpy({**tensors, **weights})


def router_record(router: Router) -> dict[str, Any]:
    """The JSON-able rest of a router: `side` of its thumbnails, `neighbours` and the clusters' `sizes`."""
    return {
        "side": router.autoencoder.side,
        "neighbours": router.neighbours,
        "sizes": list(router.clusters.sizes),
    }


def _numpy(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}


def router_from(arrays: Mapping[str, np.ndarray[Any, Any]], record: Mapping[str, Any]) -> Router:
    """The router of `router_arrays` and `router_record`, on the CPU.

    Raises:
        KeyError: an array or a key is missing.
        RuntimeError: the autoencoder's weights do not fit.
        TensorError: the parts do not fit together.
    """
    autoencoder = Autoencoder(record["side"])
    weights = {name.removeprefix(_PREFIX): _tensor(a) for name, a in arrays.items() if name.startswith(_PREFIX)}
    autoencoder.load_state_dict(weights)
    clusters = ClusterModel(
        mean=_tensor(arrays["pca_mean"]),
        components=_tensor(arrays["pca_components"]),
        centroids=_tensor(arrays["centroids"]),
        latents=_tensor(arrays["reference_latents"]),
        labels=_tensor(arrays["reference_clusters"]),
        sizes=tuple(record["sizes"]),
    )
    return Router(autoencoder.eval(), clusters, _tensor(arrays["reference_ids"]), record["neighbours"])


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    # A copy, since loaded arrays may be read-only views of the file's bytes.
    return torch.from_numpy(array.copy())

"""The space as an artifact: safetensors and a JSON record of format "space", version 1. No pickle.

Arrays: `universal` (K, C, S, S) and `dictionaries` (M, K, C, S, S), RGB; with a router also `pca_mean`,
`pca_components`, `centroids`, `reference_latents`, `reference_clusters`, `reference_ids` and `autoencoder.<parameter>`.
The record: lmbda of the projection, the norm convention and lambda of every dictionary, resolution, neighbours, the
clusters' sizes, digest of the content, provenance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stl_ray.csc import Dictionary
from stl_ray.errors import ArtifactError, StlRayError
from stl_ray.space.autoencoder import Autoencoder
from stl_ray.space.clusters import ClusterModel
from stl_ray.space.router import Router
from stl_ray.store import load_artifact, save_artifact

if TYPE_CHECKING:
    from stl_ray.space.space import QuasiNaturalSpace

KIND, VERSION = "space", 1

_PREFIX = "autoencoder."


def save_parts(space: QuasiNaturalSpace, uri: str) -> str:
    """Write `space` and return the artifact's digest."""
    record = {
        **_settings(space),
        "sizes": None if space.router is None else space.router.clusters.sizes,
        "resolution": space.resolution,
        "content_digest": space.digest,
        "provenance": dict(space.provenance),
    }
    return save_artifact(uri, KIND, VERSION, _arrays(space), record)


def load_parts(uri: str) -> dict[str, Any]:
    """The arguments of `QuasiNaturalSpace` from its folder.

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
        router = None if meta["neighbours"] is None else router_from(arrays, meta["neighbours"])
        return {
            "universal_dictionary": universal,
            "dictionaries": dictionaries,
            "lmbda": meta["lmbda"],
            "router": router,
            "resolution": meta["resolution"],
            "provenance": meta["provenance"],
        }
    except (KeyError, ValueError, RuntimeError, StlRayError) as error:
        raise ArtifactError(f"the parts of the space do not fit together ({error})", item=uri) from error


def content_digest(space: QuasiNaturalSpace) -> str:
    """SHA-256 over what can change a projection: every array, lambda, norm and k; not the provenance."""
    content = hashlib.sha256(repr(sorted(_settings(space).items())).encode())
    for name, array in sorted(_arrays(space).items()):
        content.update(f"{name}{array.dtype.str}{array.shape}".encode())
        content.update(array.tobytes())
    return content.hexdigest()


def _settings(space: QuasiNaturalSpace) -> dict[str, Any]:
    return {
        "lmbda": space.lmbda,
        "norm": space.universal_dictionary.norm,
        "universal_lmbda": space.universal_dictionary.lmbda,
        "dictionary_lmbdas": [dictionary.lmbda for dictionary in space.dictionaries],
        "neighbours": None if space.router is None else space.router.neighbours,
    }


def _arrays(space: QuasiNaturalSpace) -> dict[str, np.ndarray[Any, Any]]:
    tensors = {
        "universal": space.universal_dictionary.filters,
        "dictionaries": torch.stack([dictionary.filters for dictionary in space.dictionaries]),
    }
    arrays = _numpy(tensors)
    return arrays if space.router is None else {**arrays, **router_arrays(space.router)}


def router_arrays(router: Router) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a router; with k, all that `router_from` needs."""
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


def _numpy(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}


def router_from(arrays: Mapping[str, np.ndarray[Any, Any]], neighbours: int) -> Router:
    """The router of `router_arrays`, on the CPU.

    Raises:
        KeyError: an array is missing.
        RuntimeError: the autoencoder's weights do not fit.
        TensorError: the parts do not fit together.
    """
    autoencoder = Autoencoder()
    weights = {name.removeprefix(_PREFIX): _tensor(a) for name, a in arrays.items() if name.startswith(_PREFIX)}
    autoencoder.load_state_dict(weights)
    names = ("pca_mean", "pca_components", "centroids", "reference_latents", "reference_clusters")
    clusters = ClusterModel(*(_tensor(arrays[name]) for name in names))
    return Router(autoencoder.eval(), clusters, _tensor(arrays["reference_ids"]), neighbours)


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    # A copy of its own, since loaded arrays may be read-only views of the file's bytes.
    return torch.from_numpy(array.copy())

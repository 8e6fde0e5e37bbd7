"""Artifacts: named arrays and a JSON record with a format version and a digest. No pickle.

An artifact of kind K in a folder is `K.safetensors` and, published after it, `K.json`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from stl_ray.errors import ArtifactError, StorageError
from stl_ray.store.filesystem import Storage, canonical_json


@dataclass(frozen=True)
class Artifact:
    """An artifact as loaded: arrays by name, the record, and the digest of both."""

    arrays: dict[str, np.ndarray[Any, Any]]
    meta: dict[str, Any]
    digest: str


def save_artifact(
    folder: str, kind: str, version: int, arrays: Mapping[str, np.ndarray[Any, Any]], meta: Mapping[str, Any]
) -> str:
    """Write an artifact and return its digest (sha256, hexadecimal) over arrays, record, kind and version.

    Args:
        folder: path or URI of the artifact's folder.
        kind: what it is, such as "space"; also the files' names.
        version: of the format, checked on load.
        arrays: numeric arrays by name.
        meta: a JSON-able record.

    Raises:
        StorageError: if the folder cannot be written to.
    """
    storage = Storage.open(folder)
    tensors = _tensors(arrays)
    tensors_sha256 = hashlib.sha256(tensors).hexdigest()
    digest = _digest(kind, version, tensors_sha256, meta)
    storage.write(f"{kind}.safetensors", tensors)
    record = {"format": kind, "version": version, "digest": digest, "tensors_sha256": tensors_sha256}
    storage.write_json(f"{kind}.json", {**record, "meta": dict(meta)})
    return digest


def artifact_digest(
    kind: str, version: int, arrays: Mapping[str, np.ndarray[Any, Any]], meta: Mapping[str, Any]
) -> str:
    """The digest that `save_artifact` would return; nothing is written."""
    return _digest(kind, version, hashlib.sha256(_tensors(arrays)).hexdigest(), meta)


def load_artifact(folder: str, kind: str, version: int | None) -> Artifact:
    """Read an artifact and check format, version (None: any) and digest.

    Raises:
        ArtifactError: if it is missing, unreadable, altered, or of another kind or version.
    """
    storage = Storage.open(folder)
    where = storage.at(f"{kind}.json")
    try:
        record = storage.read_json(f"{kind}.json")
        tensors = storage.read(f"{kind}.safetensors")
    except StorageError as error:
        raise ArtifactError(f"no readable {kind} artifact ({error.message})", item=error.item) from error
    if not isinstance(record, dict) or record.get("format") != kind:
        raise ArtifactError("another kind of file", item=where, expected=f"format {kind!r}", got=_format_of(record))
    there = record.get("version")
    if not isinstance(there, int) or version not in (None, there):
        raise ArtifactError("another format version", item=where, expected=version or "a number", got=there)
    tensors_sha256 = hashlib.sha256(tensors).hexdigest()
    digest = _digest(kind, there, tensors_sha256, record.get("meta", {}))
    if tensors_sha256 != record.get("tensors_sha256") or digest != record.get("digest"):
        raise ArtifactError(
            "altered since it was written", item=where, expected=f"digest {record.get('digest')}", got=digest
        )
    try:
        arrays = load(tensors)
    except SafetensorError as error:
        raise ArtifactError(f"not a safetensors file ({error})", item=f"{kind}.safetensors") from error
    return Artifact(arrays=arrays, meta=record["meta"], digest=digest)


def artifact_kind(folder: str) -> str | None:
    """The kind of the artifact in a folder, the first by name; None where there is none.

    Raises:
        StorageError: if the storage refuses.
    """
    names = Storage.open(folder).names()
    kinds = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return next((kind for kind in kinds if f"{kind}.safetensors" in names), None)


def _tensors(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()})


def _format_of(record: object) -> object:
    return record.get("format") if isinstance(record, dict) else type(record).__name__


def _digest(kind: str, version: int, tensors_sha256: str, meta: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json([kind, version, tensors_sha256, dict(meta)])).hexdigest()

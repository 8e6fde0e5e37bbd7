"""A stored space, as far as the report shows it. Parts that it does not have, or that cannot be read, are None.

An imported space has no clusters, and the record of how it was made is free in form.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError, ValidatorFunctionWrapHandler, field_validator

from stl_ray.errors import ArtifactError
from stl_ray.report.records import Clusters, Record
from stl_ray.store import load_artifact
from stl_ray.store.authors_file import read_authors_file

KIND, VERSION = "space", 2

Array = np.ndarray[Any, Any]


class _Known(Record):
    """A record whose fields may all be absent; one that cannot be read is taken for absent."""

    @field_validator("*", mode="wrap")
    @classmethod
    def _or_none(cls, value: object, parse: ValidatorFunctionWrapHandler) -> Any:
        try:
            return parse(value)
        except ValidationError:
            return None


class AutoencoderRecord(_Known):
    """How the autoencoder ended; PSNR in dB on held-out images: denoised, and noisy as they went in."""

    epochs: int | None = None
    validation_loss: float | None = None
    psnr: float | None = None
    noisy_psnr: float | None = None


class DictionaryRecord(_Known):
    """How a dictionary was learned; objective, sparsity and PSNR in dB on held-out images."""

    method: str | None = None
    images: int | None = None
    holdout: int | None = None
    iterations: int | None = None
    converged: bool | None = None
    objective: float | None = None
    sparsity: float | None = None
    psnr: float | None = None


class ImportedRecord(_Known):
    """The authors' file that a space was imported from."""

    file: str | None = None
    sha256: str | None = None


class Provenance(_Known):
    """How a space was made."""

    seed: int | None = None
    dataset: str | None = None
    images: int | None = None
    autoencoder: AutoencoderRecord | None = None
    clusters: Clusters | None = None
    dictionaries: dict[str, DictionaryRecord] | None = None
    imported: ImportedRecord | None = None


class SpaceRecord(_Known):
    """The settings of a space, and how it was made."""

    lmbda: float | None = None
    norm: str | None = None
    universal_lmbda: float | None = None
    dictionary_lmbdas: tuple[float, ...] | None = None
    side: int | None = None
    neighbours: int | None = None
    sizes: tuple[int, ...] | None = None
    resolution: int | None = None
    content_digest: str | None = None
    universal_digest: str | None = None
    provenance: Provenance | None = None


@dataclass(frozen=True)
class StoredSpace:
    """The parts of a space that are shown.

    Attributes:
        digest: of the artifact, with everything that is recorded in it.
        universal: (K, C, S, S).
        dictionaries: (M, K, C, S, S).
        samples: (M, n, 3, s, s) uint8, training images of every cluster.
        references: latents that vote.
        pca_dimensions: of a latent that votes.
        record: the rest.
    """

    digest: str
    universal: Array
    dictionaries: Array
    samples: Array | None
    references: int | None
    pca_dimensions: int | None
    record: SpaceRecord

    @property
    def provenance(self) -> Provenance:
        """How the space was made, as far as is known."""
        return self.record.provenance or Provenance()

    @property
    def clustered(self) -> bool:
        """Whether the space routes images to dictionaries."""
        return self.references is not None


def read_space(folder: str) -> StoredSpace:
    """Read the space in a folder.

    Raises:
        ArtifactError: it is missing, unreadable, altered, of another version, or has no dictionaries.
    """
    artifact = load_artifact(folder, KIND, VERSION)
    arrays = artifact.arrays
    if not {"universal", "dictionaries"} <= arrays.keys():
        raise ArtifactError(
            "not a space", item=folder, expected="arrays universal and dictionaries", got=", ".join(sorted(arrays))
        )
    latents = arrays.get("reference_latents")
    return StoredSpace(
        digest=artifact.digest,
        universal=arrays["universal"],
        dictionaries=arrays["dictionaries"],
        samples=arrays.get("samples"),
        references=None if latents is None else len(latents),
        pca_dimensions=None if latents is None else latents.shape[1],
        record=SpaceRecord.model_validate(artifact.meta),
    )


def read_dictionary(file: str, lmbda: float | None = None) -> StoredSpace:
    """The space of one of the authors' .npy files.

    Args:
        file: path or URI.
        lmbda: lambda it was learned at; read from the file's name when absent.

    Raises:
        DictionaryError: it is no such file.
    """
    read = read_authors_file(file, lmbda)
    imported = ImportedRecord(file=read.name, sha256=read.sha256)
    return StoredSpace(
        digest=read.sha256,
        universal=read.filters,
        dictionaries=read.filters[None],
        samples=None,
        references=None,
        pca_dimensions=None,
        record=SpaceRecord(lmbda=read.lmbda, norm="joint", provenance=Provenance(imported=imported)),
    )

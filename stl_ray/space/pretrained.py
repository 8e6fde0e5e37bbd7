"""The autoencoder as an artifact of its own: kind "autoencoder", version 1, its arrays the plain state dict. No pickle."""

from collections.abc import Mapping
from typing import Any

import torch

from stl_ray.errors import ArtifactError, TensorError
from stl_ray.space.autoencoder import Autoencoder
from stl_ray.store import load_artifact, save_artifact

KIND, VERSION = "autoencoder", 1


def save_autoencoder(uri: str, autoencoder: Autoencoder, meta: Mapping[str, Any]) -> str:
    """Write an autoencoder and return the artifact's digest; the same weights and record give the same digest.

    Args:
        uri: path or URI of the folder.
        autoencoder: what to write.
        meta: JSON-able record of its making; `side` is added.

    Raises:
        StorageError: the folder cannot be written to.
    """
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in autoencoder.state_dict().items()}
    return save_artifact(uri, KIND, VERSION, arrays, {**meta, "side": autoencoder.side})


def load_autoencoder(uri: str) -> tuple[Autoencoder, dict[str, Any], str]:
    """The autoencoder in a folder, on the CPU and in eval mode, its record and its digest.

    Raises:
        ArtifactError: it is missing, altered, of another version, no autoencoder of ours, or not finite.
    """
    artifact = load_artifact(uri, KIND, VERSION)
    try:
        autoencoder = Autoencoder(artifact.meta["side"])
        # Copies, since loaded arrays may be read-only views of the file's bytes.
        autoencoder.load_state_dict({name: torch.tensor(array) for name, array in artifact.arrays.items()})
    except (KeyError, TypeError, RuntimeError, TensorError) as error:
        raise ArtifactError(f"not an autoencoder of this version ({error})", item=uri) from error
    bad = [name for name, tensor in autoencoder.state_dict().items() if not bool(tensor.isfinite().all())]
    if bad:
        raise ArtifactError("weights that are not finite", item=uri, got=", ".join(bad[:5]))
    return autoencoder.eval(), artifact.meta, artifact.digest

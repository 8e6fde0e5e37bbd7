"""Files of tensors by name, in safetensors' or torch's format, whatever their names end in. No code of a file is run.

torch's reader for weights alone refuses a checkpoint for a namespace of options or a NumPy number beside its weights. So
each class that a file names, and torch does not hold for harmless, is read as an empty object of that name: neither the
class nor anything else is imported or called.
"""

import io
import zipfile
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from stl_ray.errors import ArtifactError


class NotRead:
    """What stands for an object of a class that is not imported."""

    def __new__(cls, *_: object, **__: object) -> "NotRead":
        """Whatever it is made of."""
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Nothing of it is kept."""


def read_state(data: bytes, item: str) -> Any:
    """The content of a file: tensors by name, or what else lies around them.

    Args:
        data: the file.
        item: its name, for messages.

    Raises:
        ArtifactError: it is damaged, no file of this kind, or needs code to be run.
    """
    reason = _other_kind(data)
    if reason:
        raise ArtifactError(f"not a file of weights alone ({reason})", item=item)
    if data[8:9] == b"{" or (item.lower().endswith(".safetensors") and not data.startswith(b"PK")):
        try:
            return safetensors.torch.load(data)
        except SafetensorError as error:
            raise ArtifactError(f"not a safetensors file ({error})", item=item) from error
    named: list[str] = []
    try:
        named = _classes(data)
        stand_ins = [(type(name, (NotRead,), {}), name) for name in named]
        with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        # Of many kinds, and torch's words advise to run the file's code.
        reason = f"its pickle is damaged, or asks for {', '.join(named[:3]) or 'code'}"
        raise ArtifactError(f"not a file of weights alone ({reason}); save a state_dict()", item=item) from error
    if isinstance(loaded, NotRead):
        raise ArtifactError(
            "a pickled object, whose code would be run",
            item=item,
            expected="its state_dict()",
            got=type(loaded).__name__,
        )
    return loaded


def _classes(data: bytes) -> list[str]:
    """Classes and functions that a file names and torch does not know; none for torch's format of before 2020."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(data)))
    except Exception:  # noqa: BLE001 - of many kinds, for a damaged file; the reader itself says whether it can do with it
        return []


def _other_kind(data: bytes) -> str | None:
    """What a file is that is neither safetensors nor torch's, where that shows."""
    if not data:
        return "it is empty"
    if _is_program(data):
        return "a TorchScript program, whose code would be run; save its state_dict()"
    return next((kind for begin, kind in _OTHERS.items() if data.lstrip()[:40].lower().startswith(begin)), None)


def _is_program(data: bytes) -> bool:
    try:
        return any(name.endswith("constants.pkl") for name in zipfile.ZipFile(io.BytesIO(data)).namelist())
    except Exception:  # noqa: BLE001 - of many kinds, for a file that is cut or damaged
        return False


_OTHERS = {
    b"version https://git-lfs": "a pointer of Git LFS, without the file itself: run `git lfs pull`",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<?xml": "an answer of a server in XML",
    b"\x89hdf": "HDF5",
}

"""The authors' published dictionaries: .npy files of (S, S, C, K) floats, channels in BGR order, named K_pS_lmLAMBDA.npy."""

import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stl_ray.errors import DictionaryError, StorageError
from stl_ray.store.filesystem import Storage
from stl_ray.store.shards import sha256

_NAME = re.compile(r"^(?P<filters>\d+)_p(?P<side>\d+)_lm(?P<lmbda>\d+(\.\d+)?)\.npy$")


class AuthorsFile(NamedTuple):
    """One of the files.

    Attributes:
        name: without its folder.
        sha256: of its bytes, hexadecimal.
        filters: (K, C, S, S) float32, RGB.
        lmbda: that they were learned at.
    """

    name: str
    sha256: str
    filters: NDArray[np.float32]
    lmbda: float


def read_authors_file(file: str | Path, lmbda: float | None = None) -> AuthorsFile:
    """Read one of the files.

    Args:
        file: its path or URI.
        lmbda: lambda it was learned at; read from its name when absent.

    Raises:
        DictionaryError: the file is missing, holds Python objects, or is not such an array; or lambda is not known.
    """
    try:
        storage, name = Storage.of_file(str(file))
        data = storage.read(name)
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except StorageError as error:
        raise DictionaryError(f"no readable .npy array ({error.message})", item=file) from error
    except (ValueError, EOFError, OSError) as error:
        raise DictionaryError(f"no readable .npy array ({error})", item=file) from error
    if not isinstance(array, np.ndarray) or array.ndim != 4 or array.dtype.kind != "f":
        raise DictionaryError("not an array of filters", item=file, expected="(S, S, C, K), floating point")
    if lmbda is None:
        match = _NAME.match(name)
        if match is None:
            raise DictionaryError("no lambda in the file's name", item=file, expected="K_pS_lmLAMBDA.npy, or lmbda")
        lmbda = float(match["lmbda"])
    rgb = array.transpose(3, 2, 0, 1)[:, ::-1].astype(np.float32)
    return AuthorsFile(name, sha256(data), np.ascontiguousarray(rgb), lmbda)

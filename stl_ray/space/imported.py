"""The space of one of the authors' published dictionaries: that one dictionary, no clusters."""

from dataclasses import replace

import torch

from stl_ray.csc import Dictionary
from stl_ray.errors import DictionaryError, InputError
from stl_ray.space.space import QuasiNaturalSpace
from stl_ray.store.authors_file import read_authors_file


def imported_space(file: str, lmbda: float | None = None) -> QuasiNaturalSpace:
    """The space of a .npy file (see `stl_ray.store.authors_file`); its provenance names the file.

    Args:
        file: path or URI.
        lmbda: lambda it was learned at; read from the file's name when absent.

    Raises:
        InputError: it is no such file.
    """
    try:
        read = read_authors_file(file, lmbda)
        dictionary = Dictionary(torch.from_numpy(read.filters), read.lmbda)
    except DictionaryError as error:
        raise InputError(error.message, item=file, expected=error.expected, got=error.got) from error
    provenance = {"imported": {"file": read.name, "sha256": read.sha256}}
    return replace(QuasiNaturalSpace.from_dictionary(dictionary), provenance=provenance)

"""Functions of a user's own, `module:function`: of a classifier one that returns a torch module on [0, 1] images; of a defense see
`defenses/own.py`.

Their source is part of what they are, beside their weights: all `.py` files of the top-level package that the module lies
in, by their paths in it, or the module's one file where it lies in no package. Hidden files are not (`.ipynb_checkpoints`),
nor is code that these import from elsewhere: it is the environment, as torch is.
"""

import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from stl_ray.errors import ConfigError
from stl_ray.options import closest
from stl_ray.text import said


def function_of(reference: str) -> Callable[[], object]:
    """The function that `module:function` names.

    Raises:
        ConfigError: the module cannot be imported, or has no such function.
    """
    module = _imported(reference)
    name = reference.partition(":")[2]
    found = getattr(module, name, None)
    if isinstance(found, nn.Module):
        raise ConfigError("is a network, not a function that returns one", item=reference, expected="module:function")
    if not callable(found):
        close = closest(name, [other for other, value in vars(module).items() if callable(value)])
        expected = "a function of the module" if close is None else f"{close!r}?"
        raise ConfigError("the module has no such function", item=reference, expected=expected)
    return found  # type: ignore[no-any-return]


def called(reference: str) -> nn.Module:
    """What the function returns, with weights that can be read and kept.

    Raises:
        ConfigError: there is no such function, it fails, or returns anything else.
    """
    function = function_of(reference)
    try:
        network = function()
    except (Exception, SystemExit) as error:
        raise ConfigError(f"fails when it is called without arguments ({said(error)})", item=reference) from error
    if not isinstance(network, nn.Module):
        raise ConfigError("returns no network", item=reference, expected="torch.nn.Module", got=type(network).__name__)
    require_weights(network, reference)
    return network


def source_digest(reference: str) -> str:
    """The sha256 of the function's source (above); where it lies does not matter.

    Raises:
        ConfigError: the module cannot be imported, or has no source file.
    """
    source = {name: file for name, file in module_files(reference).items() if name.endswith(".py")}
    if not source:
        raise ConfigError("its module has no source file, which an identity needs", item=reference)
    return files_digest(source)


def files_digest(files: Mapping[str, Path]) -> str:
    """The sha256 of files by their names; where they lie does not matter."""
    total = hashlib.sha256()
    for name, file in files.items():
        data = file.read_bytes()
        total.update(f"{name}\0{len(data)}\0".encode() + data)
    return total.hexdigest()


def module_files(reference: str) -> dict[str, Path]:
    """What a function's module consists of: the files of its top-level package, or its one file.

    Returns:
        The files, each by its path in the package, in one order; without hidden ones and compiled Python.

    Raises:
        ConfigError: the module cannot be imported.
    """
    module = _imported(reference)
    package = sys.modules[module.__name__.partition(".")[0]]
    if not hasattr(package, "__path__"):
        return {Path(file).name: Path(file) for file in [getattr(module, "__file__", None)] if file}
    folders = [Path(folder) for folder in package.__path__]
    found = {file.relative_to(folder): file for folder in folders for file in folder.rglob("*") if file.is_file()}
    return {path.as_posix(): file for path, file in sorted(found.items()) if not any(map(_left_out, path.parts))}


def _left_out(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__"


def _imported(reference: str) -> ModuleType:
    name, _, function = reference.partition(":")
    if not name or not function or name.startswith("."):
        raise ConfigError("no reference to a function", item=reference, expected="module:function")
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{name} cannot be imported ({said(error)})",
            item=reference, expected="module:function, of a module in the command's folder or on Python's path",
        ) from error  # fmt: skip


def require_weights(network: nn.Module, reference: str) -> None:
    """Refuse weights that no digest can be taken of: without values, or more than tensors.

    Raises:
        ConfigError: it names the first.
    """
    expected = "tensors with values, in floating point or whole numbers"
    for name, tensor in network.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            got = type(tensor).__name__
        elif is_lazy(tensor) or tensor.is_meta:
            got = "none yet (a lazy layer that has seen no image, or the device meta)"
        elif tensor.is_quantized or tensor.layout != torch.strided:
            got = f"a tensor of {str(tensor.dtype).removeprefix('torch.')}, {str(tensor.layout).removeprefix('torch.')}"
        else:
            continue
        raise ConfigError(f"its weight {name} cannot be used", item=reference, expected=expected, got=got)

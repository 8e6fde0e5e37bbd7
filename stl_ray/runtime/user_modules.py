"""The modules of a user's own classifiers and defenses (`module:function`), which travel to the nodes of a cluster.

A package travels whole, with the weights that lie in it, a module in no package as its one file. What is installed
(site-packages) does not: like torch it is part of the nodes' environment. Ray puts what travels in front of the path on
which Python looks for modules, so a node imports these and none of its own.
"""

import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stl_ray.errors import ConfigError
from stl_ray.models.functions import files_digest, module_files

LARGEST = 100 * 10**6
"""Bytes of a module that may travel: Ray keeps it in the head's memory, and every node loads it."""

_INSTALLED = {"site-packages", "dist-packages"}


@dataclass(frozen=True)
class UserModule:
    """A package, or a file that is a module.

    Attributes:
        name: of the package's folder, or of the file.
        files: by their paths in the package, or the file by its name.
        bytes: of all files.
        digest: of their content, wherever they lie.
    """

    name: str
    files: dict[str, Path]
    bytes: int
    digest: str

    def copied(self, folder: Path) -> Path:
        """Copy it into a folder; its place there."""
        place = folder / self.name
        for name, file in self.files.items():
            copy = folder / name if place.suffix == ".py" else place / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        return place

    def __str__(self) -> str:
        return f"{self.name}, {len(self.files)} file{'s' * (len(self.files) != 1)}, {self.bytes / 1e6:.1f} MB"


def travelling(functions: Sequence[str]) -> list[UserModule]:
    """The modules of functions that are not installed, each once.

    Args:
        functions: references `module:function`.

    Raises:
        ConfigError: a module cannot be imported here; it is no package with an `__init__.py` and no `.py` file; or it is
            too large.
    """
    first = {reference.partition(":")[0].partition(".")[0]: reference for reference in reversed(functions)}
    return [_module(name, reference) for name, reference in first.items() if not _is_installed(name, reference)]


def _is_installed(name: str, reference: str) -> bool:
    """Whether a module is part of an environment, this package included."""
    if name == "stl_ray":
        return True
    library = Path(sysconfig.get_path("stdlib")).resolve()
    files = [file.resolve() for file in module_files(reference).values()]
    return all(_INSTALLED & set(file.parts) or file.is_relative_to(library) for file in files)


def _module(name: str, reference: str) -> UserModule:
    module, files = sys.modules[name], module_files(reference)
    file = getattr(module, "__file__", None)
    if file is None or Path(file).suffix != ".py":
        expected = f"a file {name}.py, or a folder {name} with an __init__.py"
        got = "a folder without __init__.py" if file is None else file
        raise ConfigError(f"{name} cannot be sent to the nodes", item=reference, expected=expected, got=got)
    size = sum(path.stat().st_size for path in files.values())
    if size > LARGEST:
        largest = max(files, key=lambda path: files[path].stat().st_size)
        raise ConfigError(
            f"{name} is too large to be sent to the nodes", item=reference,
            expected=f"at most {LARGEST / 1e6:.0f} MB; large weights go by a classifier's key `weights`, or an option of a "
            "defense, with a path or URI that every node reads", got=f"{size / 1e6:.0f} MB, of which {largest} is the largest",
        )  # fmt: skip
    return UserModule(name if hasattr(module, "__path__") else Path(file).name, files, size, files_digest(files))

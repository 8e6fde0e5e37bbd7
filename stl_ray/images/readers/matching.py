"""The files that a source's path means: one file, all of a folder, or those that a pattern matches."""

import posixpath
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import NoReturn

from stl_ray.errors import InputError, StorageError
from stl_ray.images.readers.left_out import LeftOut
from stl_ray.images.readers.names import is_hidden
from stl_ray.store import Storage
from stl_ray.uris import parted


def home(place: Storage, suffixes: tuple[str, ...]) -> Storage:
    """The folder that the paths of `matching` are relative to; told from the path alone."""
    return _parted(place, suffixes)[0]


def matching(place: Storage, suffixes: tuple[str, ...]) -> list[str]:
    """The sorted paths, below `home`, of the files that are meant.

    Args:
        place: the file, whose name has to end with a suffix; or the folder, whose files with a suffix are meant, not
            those of sub-folders; or a pattern with * and [] (on a disk also ?), which says itself how names end. Hidden
            files are passed over.
        suffixes: such as `.parquet`.
    """
    folder, parts = _parted(place, suffixes)
    if any(map(_wild, parts)):
        return sorted(_expanded(folder, parts))
    inside = sorted(path for path in _expanded(folder, ["*"], *parts) if path.endswith(suffixes))
    return inside or [name for name in parts if folder.exists(name)]


def beside(place: Storage, suffixes: tuple[str, ...]) -> LeftOut:
    """Counts of what is in a folder besides the files with a suffix; none for a file or a pattern."""
    folder, parts = _parted(place, suffixes)
    left_out = LeftOut()
    if not parts:
        folders, files = folder.entries()
        left_out.folders = sum(not is_hidden(name) for name in folders)
        left_out.hidden = len(folders) - left_out.folders
        for file in files:
            if is_hidden(file.path) or not file.path.endswith(suffixes):
                left_out.add(file)
    return left_out


def stems(paths: list[str]) -> list[str]:
    """The paths without the folders that all of them share, and without suffixes where they differ without them too."""
    folder = posixpath.commonpath([posixpath.dirname(path) for path in paths]) if paths else ""
    names = [path.removeprefix(f"{folder}/") for path in paths]
    short = [posixpath.splitext(name)[0] for name in names]
    return short if len(set(short)) == len(short) else names


def require(storage: Storage, path: str, error: StorageError) -> NoReturn:
    """Raise a storage's error with a file as an InputError where the file does not exist, else unchanged.

    Raises:
        InputError: there is no such file.
        StorageError: `error` itself, where there is.
    """
    if storage.exists(path):
        raise error
    raise InputError("there is no such file", item=storage.at(path)) from error


def _parted(place: Storage, suffixes: tuple[str, ...]) -> tuple[Storage, list[str]]:
    """The part of a path that is a folder in any case, and the names and patterns below it."""
    root, name = parted(place.root)
    if name.endswith(suffixes) and not _wild(place.root):
        return Storage.open(root), [name]
    root = place.root
    parts: list[str] = []
    while _wild(root):
        root, name = parted(root)
        parts.insert(0, name)
    return Storage.open(root), parts


def _wild(path: str) -> bool:
    """Whether a path has a wildcard; the question mark of a URI begins its query."""
    return any(mark in path.partition("?")[0] for mark in "*[") or ("://" not in path and "?" in path)


def _expanded(storage: Storage, parts: list[str], folder: str = "") -> Iterator[str]:
    # Which names are folders, and where links lead, matters only for names that are entered.
    names = storage.entries(folder)[0] if parts[1:] else storage.names(folder)
    for name in names:
        if fnmatchcase(name, parts[0]) and not name.startswith("."):
            path = posixpath.join(folder, name)
            yield from _expanded(storage, parts[1:], path) if parts[1:] else [path]

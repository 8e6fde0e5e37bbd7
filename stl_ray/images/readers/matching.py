"""The files that a source's path means: one file, all of a folder, or those that a pattern matches.

A name that is there as it is written means itself, whatever signs it holds: only where none is does it count as a pattern,
as in the shell: * ? [] within a name, and ** for any number of folders. A file comes once, whatever links lead to it.
"""

import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NoReturn

from stl_ray.errors import InputError, StorageError
from stl_ray.images.readers.left_out import LeftOut
from stl_ray.images.readers.names import is_hidden
from stl_ray.store import FileInfo, Storage
from stl_ray.uris import is_uri, parted, split


def home(place: Storage, suffixes: tuple[str, ...]) -> Storage:
    """The folder that the paths of `matching` are relative to; asks the storage only where the path has wildcards."""
    return _parted(place, suffixes)[0]


def matching(place: Storage, suffixes: tuple[str, ...]) -> list[str]:
    """The sorted paths, below `home`, of the files that are meant.

    Args:
        place: the file, whose name has to end with a suffix; or the folder, whose files with a suffix are meant, not
            those of sub-folders; or a pattern, which says itself how names end. Hidden files are passed over.
        suffixes: such as `.parquet`.
    """
    return _found(place, suffixes)[0]


def beside(place: Storage, suffixes: tuple[str, ...]) -> LeftOut:
    """Counts of what is in a folder besides the files with a suffix, and of links to files that are there already."""
    folder, parts, _ = _parted(place, suffixes)
    left_out = LeftOut()
    for path in _found(place, suffixes)[1]:
        left_out.add(FileInfo(path, -1, "a link to a file that is there"))
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


def _parted(place: Storage, suffixes: tuple[str, ...]) -> tuple[Storage, list[str], bool]:
    """The part of a path that is a folder in any case, the names below it, and whether these are a pattern."""
    root, rest = place.root, list[str]()
    while _wild(split(root).key if is_uri(root) else root):
        root, name = parted(root)
        rest.insert(0, name)
    folder = Storage.open(root)
    there = 0
    while there < len(rest) and (not _wild(rest[there]) or folder.exists("/".join(rest[: there + 1]))):
        there += 1
    if there < len(rest):
        return folder.below("/".join(rest[:there])), rest[there:], True
    root, name = parted(place.root)
    return (Storage.open(root), [name], False) if name.endswith(suffixes) else (place, [], False)


def _wild(name: str) -> bool:
    return any(mark in name for mark in "*?[")


def _found(place: Storage, suffixes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The files that are meant, and the links to them or to each other that match too."""
    folder, parts, is_pattern = _parted(place, suffixes)
    if is_pattern:
        return _once(folder, set(_expanded(folder, parts)))
    inside = "/".join(parts)
    names = [name for name in _shown(folder.names(inside)) if name.endswith(suffixes)]
    if names:
        return _once(folder, {posixpath.join(inside, name) for name in names})
    return [name for name in parts if folder.exists(name)], []


def _expanded(storage: Storage, parts: Sequence[str], folder: str = "") -> Iterator[str]:
    if parts[0] == "**":
        folders, files = storage.entries(folder)
        yield from _expanded(storage, parts[1:], folder) if parts[1:] else _shown(file.path for file in files)
        for name in _shown(folders):
            yield from _expanded(storage, parts, posixpath.join(folder, name))
        return
    # Which names are folders, and where links lead, matters only for names that are entered.
    names = storage.entries(folder)[0] if parts[1:] else storage.names(folder)
    there = [name for name in names if name == parts[0]]
    for name in there or [name for name in _shown(names) if fnmatchcase(name, parts[0])]:
        path = posixpath.join(folder, name)
        yield from _expanded(storage, parts[1:], path) if parts[1:] else [path]


def _shown(paths: Iterable[str]) -> Iterator[str]:
    return (path for path in paths if not is_hidden(posixpath.basename(path)))


def _once(storage: Storage, paths: set[str]) -> tuple[list[str], list[str]]:
    """The paths of different files, and the others, which lead to one of these by a link."""
    if storage.folder is None:
        return sorted(paths), []
    top = os.path.realpath(storage.folder)
    real = {path: os.path.realpath(f"{top}/{path}") for path in paths}
    # Of the paths of a file the one without links, or else the first.
    first: dict[str, str] = {}
    for path in sorted(paths, key=lambda path: (real[path] != f"{top}/{path}", path)):
        first.setdefault(real[path], path)
    return sorted(first.values()), sorted(paths - set(first.values()))

"""The files that a source's path means: one file, all of a folder, or those that a pattern matches."""

import posixpath
from collections.abc import Iterator
from fnmatch import fnmatchcase

from stl_ray.errors import InputError, StorageError
from stl_ray.store import Storage
from stl_ray.uris import parted


def matching(place: Storage, suffix: str) -> tuple[Storage, list[str]]:
    """The folder that the files lie below, and their sorted paths there.

    Args:
        place: the file, whose name has to end with the suffix; or the folder, whose files with that suffix are meant,
            not those of sub-folders; or a pattern with * and [] (on a disk also ?) in its last parts, which says itself
            how names end. Hidden files are passed over.
        suffix: such as `.parquet`.
    """
    inside = [name for name in place.names() if name.endswith(suffix) and not name.startswith(".")]
    if inside:
        return place, inside
    folder, name = Storage.of_file(place.root)
    if name.endswith(suffix) and folder.exists(name):
        return folder, [name]
    fixed, parts = _pattern(place.root)
    found = sorted(_expanded(fixed, parts)) if parts else []
    above = posixpath.commonpath([posixpath.dirname(path) for path in found]) if found else ""
    return fixed.below(above), [path.removeprefix(f"{above}/") for path in found]


def stem(path: str) -> str:
    """A path without the suffix of its last part."""
    return posixpath.splitext(path)[0]


def require(storage: Storage, path: str, error: StorageError) -> None:
    """Turn a storage's trouble with a file that is not there into the input's.

    Raises:
        InputError: there is no such file.
        StorageError: the trouble itself, if there is.
    """
    if storage.exists(path):
        raise error
    raise InputError("there is no such file", item=storage.at(path)) from error


def _pattern(root: str) -> tuple[Storage, list[str]]:
    """The part of a path without wildcards, and the names and patterns below it."""
    parts: list[str] = []
    while _wild(root):
        root, name = parted(root)
        parts.insert(0, name)
    return Storage.open(root), parts


def _wild(root: str) -> bool:
    head, marks = (root, "*[?") if "://" not in root else (root.partition("?")[0], "*[")
    return any(mark in head for mark in marks)


def _expanded(storage: Storage, parts: list[str], folder: str = "") -> Iterator[str]:
    for name in storage.names(folder):
        if fnmatchcase(name, parts[0]) and not name.startswith("."):
            path = posixpath.join(folder, name)
            if parts[1:]:
                yield from _expanded(storage, parts[1:], path)
            else:
                yield path

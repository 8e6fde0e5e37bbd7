"""What a source reads, by real names: symbolic links are resolved, so that two sources that read the same can be told."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from stl_ray.store import Storage
from stl_ray.uris import parted


@dataclass(frozen=True)
class Places:
    """Real paths or URIs; none for a source that holds both splits and tells them apart itself.

    Attributes:
        files: that are read.
        folders: that are read, with all below them; no one lies in another.
    """

    files: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()

    @classmethod
    def of_files(cls, storage: Storage, paths: Iterable[str]) -> "Places":
        """The places of files, whose paths are relative to a storage."""
        return cls(files=frozenset(_real(storage, path) for path in paths))

    @classmethod
    def of_folder(cls, storage: Storage, inside: Iterable[str]) -> "Places":
        """The places of a folder, and of the folders inside that are links to elsewhere."""
        top = {_real(storage, "")}
        real = {_real(storage, name) for name in inside} if storage.folder is not None else set()
        return cls(folders=frozenset(top | {folder for folder in real if not _lies_in(folder, top)}))

    def shared(self, other: "Places") -> list[str]:
        """The sorted names of what both read: files, and folders of one that are or lie in folders of the other."""
        mine = {folder for folder in self.folders if _lies_in(folder, other.folders)}
        others = {folder for folder in other.folders if _lies_in(folder, self.folders)}
        return sorted((self.files & other.files) | mine | others)


def _real(storage: Storage, path: str) -> str:
    at = storage.at(path)
    return at if storage.folder is None else os.path.realpath(at)


def _lies_in(folder: str, folders: Iterable[str]) -> bool:
    """Whether a folder is one of some folders, or lies below one."""
    above, name = parted(folder)
    return folder in folders or (name != "" and _lies_in(above, folders))

"""Sweeping a run: files that dead or late writers left behind and nobody will ever read."""

from dataclasses import dataclass
from pathlib import Path

from stl_ray.store.audit import orphans_of
from stl_ray.store.filesystem import Storage
from stl_ray.store.lease import held
from stl_ray.store.local import UNFINISHED


@dataclass(frozen=True)
class Swept:
    """The leftovers of a run, found or removed.

    Attributes:
        run: folder of the run, relative to the root.
        files: paths relative to the run.
        bytes: of all files together.
    """

    run: str
    files: tuple[str, ...]
    bytes: int


def sweep(root: Storage, run: str, *, delete: bool) -> Swept:
    """Find, and remove, the parts of a run that no receipt names and files that were never finished.

    Args:
        root: of the experiment.
        run: folder of the run.
        delete: whether to remove what is found.

    Raises:
        RunBusyError: if a driver is at work on the run, whose workers' unfinished files these may be.
        StorageError: if the storage refuses.
    """
    storage = root.below(run)
    with held([storage]):
        files = [*orphans_of(storage), *_unfinished(storage.folder)]
        size = sum(storage.size(file) for file in files)
        for file in files if delete else ():
            storage.delete(file)
    return Swept(run, tuple(files), size)


def _unfinished(folder: Path | None) -> list[str]:
    """The files of killed writers on a disk; an object store shows none."""
    if folder is None:
        return []
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob(f"{UNFINISHED}*"))

"""The spaces at a place: the folder of one, or the root of an experiment that fitted some."""

from stl_ray.errors import InputError
from stl_ray.store.filesystem import Storage
from stl_ray.store.layout import Layout

RECORD = "space.json"


def spaces_at(place: str) -> list[str]:
    """The folders of the spaces at a path or URI: the folder itself where it is one, else those below the root, by name.

    Raises:
        InputError: there is none.
        StorageError: if the storage refuses.
    """
    storage = Storage.open(place)
    if storage.exists(RECORD):
        return [storage.root]
    below = [Layout.space(name) for name in storage.names(Layout.spaces)]
    found = [storage.at(folder) for folder in below if storage.exists(f"{folder}/{RECORD}")]
    if not found:
        expected = f"a folder with {RECORD}, or an experiment's root with one in {Layout.space('NAME')}"
        raise InputError("no space here", item=storage.root, expected=expected)
    return found


def find_space(place: str) -> str:
    """The folder of the one space at a path or URI.

    Raises:
        InputError: there is none, or several.
        StorageError: if the storage refuses.
    """
    found = spaces_at(place)
    if len(found) > 1:
        raise InputError("several spaces here; name one", item=place, expected=f"one of {', '.join(found)}")
    return found[0]

"""Facts from the name of a file in a source: whether it is an image, and whether it is hidden."""

import posixpath
import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from stl_ray.errors import InputError
from stl_ray.images.codec import EXTENSIONS

# What systems leave beside data without a dot in front: folders of thumbnails, bins, snapshots and lost files, and files.
_OF_THE_SYSTEM = frozenset({
    "@eadir", "@tmp", "#recycle", "#snapshot", "@sharebin", "@synoresource",  # Synology
    "@recycle", "@recently-snapshot",  # QNAP
    "~snapshot",  # NetApp
    "lost+found",  # ext4
    "$recycle.bin", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini",  # Windows
    "network trash folder", "temporary items", "icon\r",  # macOS
})  # fmt: skip
# Folders: of the resource forks of a Mac's archive, and of the headers of pax where a program took them for files; of
# what Windows' chkdsk finds, and of Samba's earlier versions.
_OF_THE_SYSTEM_TOO = re.compile(r"__macosx|paxheaders?(\.\d+)?|found\.\d{3}|@gmt-[\d.-]+", re.IGNORECASE)


def extension(path: str) -> str:
    """The end of a file's name from its last dot, in lower case; empty where there is none."""
    return posixpath.splitext(path)[1].lower()


def is_hidden(path: str) -> bool:
    """Whether a part of the path begins with a dot, or is what a system, a file server or an archiver leaves."""
    return any(
        part[:1] == "." or part.lower() in _OF_THE_SYSTEM or _OF_THE_SYSTEM_TOO.fullmatch(part) is not None
        for part in path.split("/")
    )


def is_image(path: str) -> bool:
    """Whether a file has an image's extension (case does not matter) and is not hidden."""
    return extension(path) in EXTENSIONS and not is_hidden(path)


def folders_of(paths: pa.Array | pa.ChunkedArray) -> set[str]:
    """The folders that files lie in, by their paths; without the top."""
    folders = pc.replace_substring_regex(paths, pattern="/?[^/]*$", replacement="")
    return set(pc.unique(folders).to_pylist()) - {""}


def is_text(name: str) -> bool:
    """Whether a name is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_text(names: Sequence[str], item: str, what: str = "a file name") -> None:
    """Refuse names that are not text.

    Raises:
        InputError: a name is not UTF-8; the message gives the first.
    """
    try:
        for name in names:
            name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is not UTF-8", item=item, got=ascii(error.object)) from error

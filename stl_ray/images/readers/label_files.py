"""The files that label an image in the manner of WebDataset: which they are, and what their bytes say.

Beside an image of a key lies `KEY.cls`, a label; `KEY.json`, an object with a field `label`; or `KEY.txt`, a label or any
other text. A label is an integer or a name. The case of extensions does not matter, and as in WebDataset's decoders
`jsn` is json and `text` is txt (https://github.com/webdataset/webdataset).
"""

import json
import posixpath
import re
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

NOT_A_LABEL = -2
"""Stands for a label that is neither an integer nor a name of a class; out of range of any classes."""

LARGEST = 2**20
"""Bytes: a larger file is not read for a label."""

_LONGEST_NAME = 255  # characters; ImageNet's longest has 121
_INTEGER = re.compile(r"[+-]?[0-9]{1,17}")
_AROUND, _BETWEEN_NUMBERS = "[]()", re.compile(r"[\s,;]+")


class Kind(StrEnum):
    """What a file beside images is."""

    CLS = "cls"
    JSON = "json"
    TXT = "txt"
    PART = "part"
    """A cls or json of a part of its key, such as `KEY.left.cls`: nothing says which images it labels."""
    OTHER = "other"


class LabelFile(NamedTuple):
    """What a file says.

    Attributes:
        kind: OTHER for a json without a field `label` too.
        number: an integer label, or NOT_A_LABEL where the file has to hold a label and holds none.
        name: a label that is the name of a class, or any short line of a txt. Where number and name are both None, the
            file is not known to hold a label: a txt that is no short line, or a json that cannot be read.
    """

    kind: Kind
    number: int | None = None
    name: str | None = None

    @property
    def is_silent(self) -> bool:
        """Whether it is not known to hold a label."""
        return self.number is None and self.name is None


_KINDS = {"cls": Kind.CLS, "json": Kind.JSON, "jsn": Kind.JSON, "txt": Kind.TXT, "text": Kind.TXT}


def read_label(path: str, read: Callable[[Kind], bytes | None]) -> LabelFile:
    """What a file beside images says.

    Args:
        path: of the file.
        read: gives its bytes, or None where it has none of its own or too many; called for CLS, JSON and TXT only.
    """
    part, _, ending = posixpath.basename(path).partition(".")[2].lower().rpartition(".")
    kind = _KINDS.get(ending, Kind.OTHER)
    if kind is Kind.OTHER or (part and kind is Kind.TXT):
        return LabelFile(Kind.OTHER)
    file = _READERS[kind](read(kind))
    if part:
        return LabelFile(Kind.OTHER if file.is_silent else Kind.PART, file.number, file.name)
    return file


def _cls(data: bytes | None) -> LabelFile:
    return _text(Kind.CLS, data or b"")


def _json(data: bytes | None) -> LabelFile:
    try:
        value = json.loads(data or b"")
    except (ValueError, RecursionError):
        return LabelFile(Kind.JSON)
    match value.get("label") if isinstance(value, dict) else None:
        case None:
            return LabelFile(Kind.OTHER)
        case bool():
            text = ""
        case float() as label if label.is_integer():
            text = str(int(label))
        case int() | str() as label:
            text = str(label)
        case _:
            text = ""
    return _text(Kind.JSON, text.encode(errors="surrogatepass"))


def _txt(data: bytes | None) -> LabelFile:
    file = _text(Kind.TXT, data or b"")
    return LabelFile(Kind.TXT) if file.number == NOT_A_LABEL else file


def _text(kind: Kind, data: bytes) -> LabelFile:
    """An integer or a name of one line; spaces around it and the mark of UTF-8 that Windows writes do not count."""
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return LabelFile(kind, NOT_A_LABEL)
    if _INTEGER.fullmatch(text):
        return LabelFile(kind, int(text))
    if 0 < len(text) <= _LONGEST_NAME and text.isprintable() and not _are_numbers(text.strip(_AROUND)):
        return LabelFile(kind, None, text)
    return LabelFile(kind, NOT_A_LABEL)


def _are_numbers(text: str) -> bool:
    """Whether a text is numbers in any other way than one integer: 1.5, nan, 0 1 0, [3]. They name no class."""
    try:
        return bool([float(part) for part in _BETWEEN_NUMBERS.split(text)])
    except ValueError:
        return False


_READERS: dict[Kind, Callable[[bytes | None], LabelFile]] = {Kind.CLS: _cls, Kind.JSON: _json, Kind.TXT: _txt}

"""A PNG without what says nothing about its pixels, for files in which Pillow objects to a profile, a text or a checksum.

Source: PNG specification, third edition, sections 5.3 (layout of a chunk: length, name, content, CRC) and 5.4 (names).
"""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_AROUND = 12  # bytes of a chunk's length, name and CRC


def without_metadata(png: bytes) -> bytes:
    """The file's critical chunks, as they are, and a sound eXIf, whose orientation the picture has.

    An animation is left with its default image.
    """
    return SIGNATURE + b"".join(chunk for chunk in _chunks(png) if _is_critical(chunk) or _is_sound_exif(chunk))


def _chunks(png: bytes) -> Iterator[bytes]:
    """The chunks, as they are; the last one may be cut off."""
    start = len(SIGNATURE)
    while start < len(png):
        length = int.from_bytes(png[start : start + 4], "big")
        yield png[start : start + length + _AROUND]
        start += length + _AROUND


def _is_critical(chunk: bytes) -> bool:
    return not chunk[4:5].islower()


def _is_sound_exif(chunk: bytes) -> bool:
    return chunk[4:8] == b"eXIf" and chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))

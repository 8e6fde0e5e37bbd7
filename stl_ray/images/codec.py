"""Encoded bytes to pixels and back. An image here is uint8 RGB, (H, W, 3), upright.

Every fault of a file raises an `ImageError` with its quarantine reason; nothing else escapes.
"""

import hashlib
import re
import struct
import zlib
from contextlib import suppress
from io import BytesIO
from itertools import chain

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, features

from stl_ray.errors import ImageError, QuarantineReason, TensorError
from stl_ray.images.png_chunks import SIGNATURE, without_metadata

MIN_SIDE = 8
"""Pixels: the smallest height and width that the stages can use (one filter, one cell of the autoencoder)."""

# Only formats that Pillow decodes itself: EPS, for one, would start an interpreter on untrusted bytes.
_FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
# Formats whose libraries an installed Pillow may lack, each with Pillow's name of the feature.
_FEATURES = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}
_FORMATS_OF_FEATURES = {
    "WEBP": (".webp",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif",),
}

EXTENSIONS = frozenset(chain.from_iterable((_FORMATS | _FORMATS_OF_FEATURES).values()))
"""Extensions of image files, in lower case."""

# zlib's level 3 takes half the time of its default 6 on photographs at 224 pixels, for the same size within 1 %.
_PNG_LEVEL = 3

_ADDRESS = re.compile(r"<[^<>]* at 0x[0-9a-f]+>", re.IGNORECASE)

_PNG_DEPTH = 24  # position of the byte: after the signature, the chunk's length and name, width and height

# What Pillow raises on damaged files. Fuzzing meets the first four; its decoders can let the others through.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    EOFError,
    struct.error,
    zlib.error,
)

# EXIF orientation -> the transposition that makes the picture upright (Exif 2.32, tag 0x0112).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, *, max_pixels: int) -> NDArray[np.uint8]:
    """Decode one image file of any kind to upright 8-bit RGB.

    Grey becomes RGB by repetition; palettes are looked up; CMYK is converted without a colour profile; 16-bit samples
    keep their high byte; alpha is dropped, not composited (as torchvision's loader does); of an animation the first
    frame is taken; an EXIF orientation is applied. Damaged metadata (texts, profiles, checksums) is passed over where the
    pixels are whole.

    Args:
        data: the bytes of a JPEG, PNG, BMP, GIF, TIFF or PNM file, or of a WebP, JPEG 2000 or AVIF file where the
            installed Pillow opens them.
        max_pixels: most width x height; checked from the header, before anything is decompressed.

    Returns:
        (H, W, 3) uint8 RGB, both sides at least `MIN_SIDE`.

    Raises:
        ImageError: with the reason: no bytes, not an image, truncated or corrupt, too small, too large, or a kind of
            sample (float, 32-bit) that has no agreed range.
    """
    return decode_original(data, max_pixels=max_pixels)[0]


def decode_original(data: bytes, *, max_pixels: int) -> tuple[NDArray[np.uint8], bool]:
    """The decoded image, and whether its bytes may be stored unchanged: every decoder reads the same pixels from them.

    They may if they are an 8-bit RGB or grey JPEG or PNG without alpha, animation, EXIF orientation and damaged metadata.

    Args:
        data: as for `decode`.
        max_pixels: as for `decode`.

    Raises:
        ImageError: as for `decode`.
    """
    if not data:
        raise ImageError("no bytes", reason=QuarantineReason.MISSING_IMAGE)
    formats = _formats_for(data)
    try:
        return _opened(data, formats, max_pixels)
    except Image.DecompressionBombError as error:
        raise ImageError(str(error), reason=QuarantineReason.TOO_LARGE) from error
    except _DECODER_ERRORS as error:
        if data.startswith(SIGNATURE):
            with suppress(*_DECODER_ERRORS):
                return _opened(without_metadata(data), formats, max_pixels)[0], False
        # Pillow writes a file's address in memory, which would give the quarantine other bytes in every run.
        said = _ADDRESS.sub("", str(error)).strip()
        raise ImageError(f"not a readable image ({type(error).__name__}: {said})") from error


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Encode (H, W, 3) uint8 RGB losslessly; the same pixels give the same bytes.

    Raises:
        TensorError: another shape or type.
    """
    _check_image(image)
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()


def pixel_digest(image: NDArray[np.uint8]) -> bytes:
    """A digest of (H, W, 3) uint8 RGB, 16 bytes: images of one digest are the same, pixel by pixel, whatever their files.

    The first half of the SHA-256 of height and width (little-endian, 4 bytes each) and the pixels, row by row.

    Raises:
        TensorError: another shape or type.
    """
    _check_image(image)
    digest = hashlib.sha256(np.array(image.shape[:2], "<u4").tobytes())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()[:16]


def resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Scale the shorter side to `size` and keep the centre square.

    Bilinear with antialiasing, as torchvision's `Resize` does on a Pillow image. Only the square is computed, so that
    a very long image costs no more than a square one. An image whose shorter side is `size` is only cropped.

    Args:
        image: (H, W, 3) uint8 RGB.
        size: pixels, at least 1.

    Returns:
        (size, size, 3) uint8 RGB.

    Raises:
        TensorError: another shape or type.
    """
    _check_image(image)
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    box = (left, top, left + side, top + side)
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box))


def _opened(data: bytes, formats: tuple[str, ...], max_pixels: int) -> tuple[NDArray[np.uint8], bool]:
    """`decode_original` of a file that may be of these formats, with Pillow's own errors."""
    with Image.open(BytesIO(data), formats=formats) as image:
        _check_size(image.width, image.height, max_pixels)
        image.load()
        plain = _is_plain(image, data)
        rgb = _to_rgb(image)
        orientation = _orientation(image)
        upright = _UPRIGHT.get(orientation)
        return np.array(rgb if upright is None else rgb.transpose(upright)), plain and orientation == 1


def _formats_for(data: bytes) -> tuple[str, ...]:
    """The formats that a file may have by its first bytes; a Pillow without a format's library may not know its name."""
    boxed = data[8:12] if data[4:8] == b"ftyp" else b""  # the brand of an ISO base media file (ISO 14496-12)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        format = "WEBP"
    elif data.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")):  # code stream, file (ISO 15444-1)
        format = "JPEG2000"
    elif boxed in {b"avif", b"avis", b"mif1", b"msf1"}:
        format = "AVIF"
    else:
        return tuple(_FORMATS)
    if not features.check(_FEATURES[format]):
        expected = f"one that was built with the feature {_FEATURES[format]}"
        raise ImageError(f"the installed Pillow does not open {format}", expected=expected, got=PIL.__version__)
    return (format,)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    got = f"{width} x {height}"
    if min(width, height) < MIN_SIDE:
        expected = f"at least {MIN_SIDE} pixels each way"
        raise ImageError("too small", reason=QuarantineReason.TOO_SMALL, expected=expected, got=got)
    if width * height > max_pixels:
        expected = f"at most {max_pixels} pixels"
        raise ImageError("too large", reason=QuarantineReason.TOO_LARGE, expected=expected, got=got)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in {"PNG", "PPM"}):
        # The high byte, which is what Pillow itself keeps of 16-bit RGB; its conversion of 16-bit grey would saturate.
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in {"I", "F"}:
        raise ImageError("32-bit and float samples have no agreed range", got=f"mode {image.mode}")
    image.info.pop("transparency", None)  # alpha is dropped in any case, and Pillow warns of some forms of it
    return image.convert("RGB")


def _is_plain(image: Image.Image, data: bytes) -> bool:
    """Whether the file holds 8-bit RGB or grey and nothing that only some decoders heed."""
    if image.format not in {"JPEG", "PNG"} or image.mode not in {"RGB", "L"}:
        return False
    if "transparency" in image.info or getattr(image, "n_frames", 1) > 1:
        return False
    # Pillow opens 16-bit RGB as 8-bit; the depth is in the first chunk of a PNG (section 11.2.1 of its specification).
    return image.format == "JPEG" or data[_PNG_DEPTH] == 8


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DECODER_ERRORS:  # a damaged EXIF block says nothing about the pixels, which are sound
        return 1
    return value if isinstance(value, int) else 1


def _check_image(image: NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise TensorError("not an RGB image", expected="(H, W, 3) uint8", got=f"{image.shape} {image.dtype}")

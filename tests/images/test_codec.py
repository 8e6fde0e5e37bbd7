import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from torchvision.transforms.functional import resize as torchvision_resize

from stl_ray.errors import ImageError, QuarantineReason, TensorError
from stl_ray.images import MIN_SIDE, codec, decode, encode_png, pixel_digest, resize

MAX_PIXELS = 1_000_000
PHOTOGRAPH = np.ascontiguousarray(data.chelsea()[60:108, 100:164])  # (48, 64, 3): height and width differ
KINDS = ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF"]
JPEG_TOLERANCE = 12  # mean grey levels: what chroma subsampling and CMYK do to this crop, far below a wrong picture


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def reason_of(encoded: bytes, max_pixels: int = MAX_PIXELS) -> QuarantineReason:
    with pytest.raises(ImageError) as caught:
        decode(encoded, max_pixels=max_pixels)
    return caught.value.reason


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 31, 3), (224, 9, 3)])
def test_roundtrip_png(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(decode(encode_png(image), max_pixels=MAX_PIXELS), image)
    assert encode_png(image) == encode_png(image.copy())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_roundtrip_lossless_formats(kind):
    assert np.array_equal(decode(saved(Image.fromarray(PHOTOGRAPH), kind), max_pixels=MAX_PIXELS), PHOTOGRAPH)


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("WEBP", "RGB"), ("AVIF", "RGB"), ("JPEG", "CMYK"), ("TIFF", "CMYK")]
)
def test_agrees_lossy_formats_and_cmyk_with_the_photograph(kind, mode):
    image = decode(saved(Image.fromarray(PHOTOGRAPH).convert(mode), kind), max_pixels=MAX_PIXELS)
    assert image.shape == PHOTOGRAPH.shape and image.dtype == np.uint8
    assert np.abs(image.astype(int) - PHOTOGRAPH).mean() < JPEG_TOLERANCE


def test_identity_grey_is_repeated():
    grey = PHOTOGRAPH[..., 0]
    assert np.array_equal(decode(saved(Image.fromarray(grey), "PNG"), max_pixels=MAX_PIXELS), np.stack([grey] * 3, -1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_identity_16_bit_grey_keeps_its_high_byte(kind):
    grey = PHOTOGRAPH[..., 0]
    sixteen = grey.astype(np.uint16) * 257
    assert sixteen.max() > 255
    image = decode(saved(Image.fromarray(sixteen), kind), max_pixels=MAX_PIXELS)
    assert np.array_equal(image, np.stack([grey] * 3, -1))


def test_identity_16_bit_rgb_keeps_its_high_byte():
    rows = (PHOTOGRAPH.astype(">u2") * 257).tobytes()
    stride = PHOTOGRAPH.shape[1] * 6
    raw = b"".join(b"\0" + rows[start : start + stride] for start in range(0, len(rows), stride))
    encoded = png(struct.pack(">IIBBBBB", 64, 48, 16, 2, 0, 0, 0), zlib.compress(raw))
    assert np.array_equal(decode(encoded, max_pixels=MAX_PIXELS), PHOTOGRAPH)


def test_identity_palette_is_looked_up_and_its_transparency_dropped():
    palette = Image.fromarray(PHOTOGRAPH).quantize(16)
    expected = np.array(palette.convert("RGB"))
    assert np.array_equal(decode(saved(palette, "PNG"), max_pixels=MAX_PIXELS), expected)
    assert np.array_equal(decode(saved(palette, "GIF"), max_pixels=MAX_PIXELS), expected)
    see_through = saved(palette, "PNG", transparency=bytes(range(16)))
    assert np.array_equal(decode(see_through, max_pixels=MAX_PIXELS), expected)


def test_identity_alpha_is_dropped_and_not_composited():
    alpha = np.zeros(PHOTOGRAPH.shape[:2], np.uint8)
    alpha[::2] = 128
    rgba = Image.fromarray(np.dstack([PHOTOGRAPH, alpha]))
    assert np.array_equal(decode(saved(rgba, "PNG"), max_pixels=MAX_PIXELS), PHOTOGRAPH)
    grey_alpha = Image.merge("LA", [Image.fromarray(PHOTOGRAPH[..., 1]), Image.fromarray(alpha)])
    assert np.array_equal(decode(saved(grey_alpha, "PNG"), max_pixels=MAX_PIXELS)[..., 2], PHOTOGRAPH[..., 1])


# What a camera stores for each orientation, by NumPy: (rows, columns) of the upright picture -> of the file.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_identity_exif_orientation_is_applied(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](PHOTOGRAPH))
    assert np.array_equal(
        decode(saved(Image.fromarray(stored), kind, exif=exif), max_pixels=MAX_PIXELS),
        PHOTOGRAPH,
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_identity_an_orientation_in_avif_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # Without chroma subsampling nothing but the losses of the coder is between the two.
    options = {"subsampling": "4:4:4", "quality": 95}
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](PHOTOGRAPH)))
    image = decode(saved(stored, "AVIF", exif=exif, **options), max_pixels=MAX_PIXELS)
    assert image.shape == PHOTOGRAPH.shape
    assert np.abs(image.astype(int) - PHOTOGRAPH).mean() < JPEG_TOLERANCE / 4


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage that is no TIFF", b"garbage"])
def test_identity_damaged_exif_leaves_the_pixels(kind, exif):
    encoded = saved(Image.fromarray(PHOTOGRAPH), kind, exif=exif)
    plain = saved(Image.fromarray(PHOTOGRAPH), kind)
    assert np.array_equal(decode(encoded, max_pixels=MAX_PIXELS), decode(plain, max_pixels=MAX_PIXELS))


BROKEN_CHUNKS = {
    "checksum": png_chunk(b"pHYs", b"\0\0\1\0\0\0\1\0\1")[:-4] + b"xxxx",
    "text's checksum": png_chunk(b"tEXt", b"k\0v")[:-4] + b"xxxx",
    "size": png_chunk(b"gAMA", b"\1"),
    "transparency's size": png_chunk(b"tRNS", b"\1"),
    "profile": png_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(2 * 2**20))),
    "text": png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2 * 2**20))),
    "method": png_chunk(b"zTXt", b"k\0\7"),
    "animation": png_chunk(b"acTL", b"\1"),
}


@pytest.mark.parametrize("chunk", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
@pytest.mark.parametrize("place", [33, -12])  # behind the header and in front of the end
def test_identity_a_png_with_damaged_metadata_keeps_its_pixels(chunk, place):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](PHOTOGRAPH)))
    encoded = saved(stored, "PNG", exif=exif)
    damaged = encoded[:place] + chunk + encoded[place:]
    image, plain = codec.decode_original(damaged, max_pixels=MAX_PIXELS)
    assert np.array_equal(image, PHOTOGRAPH) and not plain
    cut = damaged.index(b"IDAT") + 200
    assert reason_of(damaged[:cut] + bytes(100) + damaged[cut + 100 :]) is QuarantineReason.UNREADABLE


def test_refuses_with_the_same_words_in_every_run():
    keep = []  # so that the second file lies at another address
    for _ in range(2):
        with pytest.raises(ImageError) as caught:
            decode(b"not an image", max_pixels=MAX_PIXELS)
        keep.append(caught)
        assert str(caught.value) == "not a readable image (UnidentifiedImageError: cannot identify image file)"


def test_refuses_no_bytes():
    assert reason_of(b"") is QuarantineReason.MISSING_IMAGE


@pytest.mark.parametrize("encoded", [b"not an image", b"\x89PNG\r\n\x1a\n", b"\0" * 4096, b"P3\n8 8\n255\n1 2 x"])
def test_refuses_what_is_no_image(encoded):
    assert reason_of(encoded) is QuarantineReason.UNREADABLE


@pytest.mark.parametrize("kind", ["PCX", "TGA", "EPS", "ICO"])
def test_refuses_formats_outside_the_list(kind):
    assert reason_of(saved(Image.fromarray(PHOTOGRAPH), kind)) is QuarantineReason.UNREADABLE


@pytest.mark.parametrize(("kind", "feature"), [("AVIF", "avif"), ("JPEG2000", "jpg_2000"), ("WEBP", "webp")])
def test_refuses_by_name_a_format_that_this_pillow_was_built_without(monkeypatch, kind, feature):
    monkeypatch.setattr(codec.features, "check", lambda name: name != feature)
    with pytest.raises(ImageError, match=f"the installed Pillow does not open {kind}; expected .*{feature}") as caught:
        decode(saved(Image.fromarray(PHOTOGRAPH), kind), max_pixels=MAX_PIXELS)
    assert caught.value.reason is QuarantineReason.UNREADABLE
    assert np.array_equal(decode(encode_png(PHOTOGRAPH), max_pixels=MAX_PIXELS), PHOTOGRAPH)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_refuses_truncated(kind, share):
    encoded = saved(Image.fromarray(PHOTOGRAPH), kind)
    assert reason_of(encoded[: int(share * len(encoded))]) is QuarantineReason.UNREADABLE


def test_refuses_corrupt_png_data():
    encoded = bytearray(encode_png(PHOTOGRAPH))
    middle = len(encoded) // 2
    encoded[middle : middle + 64] = bytes(64)
    assert reason_of(bytes(encoded)) is QuarantineReason.UNREADABLE


def test_refuses_a_png_with_a_broken_chunk_name():
    compressed = zlib.compress(b"\0" * 48 * (1 + 64 * 3), level=0)
    encoded = png(struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0), compressed[:100], compressed[100:])
    assert decode(encoded, max_pixels=MAX_PIXELS).shape == (48, 64, 3)
    head, second = encoded.rsplit(b"IDAT", 1)
    assert reason_of(head + b"\0DAT" + second) is QuarantineReason.UNREADABLE


@pytest.mark.parametrize("size", [(1, 1), (MIN_SIDE - 1, 100), (100, MIN_SIDE - 1)])
def test_refuses_too_small(size):
    assert reason_of(saved(Image.new("RGB", size), "PNG")) is QuarantineReason.TOO_SMALL


@pytest.mark.parametrize("kind", KINDS)
def test_refuses_too_large_and_too_small_in_every_format(kind):
    pixels = PHOTOGRAPH.shape[0] * PHOTOGRAPH.shape[1]
    assert reason_of(saved(Image.fromarray(PHOTOGRAPH), kind), max_pixels=pixels - 1) is QuarantineReason.TOO_LARGE
    assert reason_of(saved(Image.fromarray(PHOTOGRAPH[:7]), kind)) is QuarantineReason.TOO_SMALL


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_identity_a_digest_is_of_size_and_pixels():
    image = PHOTOGRAPH[:16, :12]
    expected = hashlib.sha256(struct.pack("<2I", 16, 12) + image.tobytes()).digest()[:16]
    assert pixel_digest(image) == expected  # a view, whose rows do not follow each other
    assert pixel_digest(np.ascontiguousarray(image).reshape(12, 16, 3)) != expected
    changed = image.copy()
    changed[3, 5, 1] ^= 1
    assert pixel_digest(changed) != expected
    with pytest.raises(TensorError):
        pixel_digest(image[..., 0])


def test_refuses_too_large_by_the_header_alone():
    pixels = PHOTOGRAPH.shape[0] * PHOTOGRAPH.shape[1]
    encoded = encode_png(PHOTOGRAPH)
    assert decode(encoded, max_pixels=pixels).shape == PHOTOGRAPH.shape
    assert reason_of(encoded, max_pixels=pixels - 1) is QuarantineReason.TOO_LARGE
    # Headers that promise gigapixels over a few bytes: below and above Pillow's own limit, which may come first.
    for side in (10_000, 60_000):
        bomb = png(struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), zlib.compress(b""))
        assert reason_of(bomb) is QuarantineReason.TOO_LARGE


@pytest.mark.parametrize("samples", [np.float32, np.int32])
def test_refuses_samples_without_a_range(samples):
    encoded = saved(Image.fromarray(PHOTOGRAPH[..., 0].astype(samples)), "TIFF")
    assert reason_of(encoded) is QuarantineReason.UNREADABLE


ENCODED = [saved(Image.fromarray(PHOTOGRAPH), kind) for kind in KINDS]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    encoded=st.sampled_from(ENCODED),
    position=st.floats(0, 1, exclude_max=True),
    patch=st.binary(min_size=1, max_size=8),
)
def test_refuses_damage_with_an_image_error_or_survives_it(encoded, position, patch):
    start = int(position * len(encoded))
    damaged = encoded[:start] + patch + encoded[start + len(patch) :]
    try:
        image = decode(damaged, max_pixels=MAX_PIXELS)
    except ImageError:
        return
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    assert min(image.shape[:2]) >= MIN_SIDE


@pytest.mark.parametrize("image", [PHOTOGRAPH[..., 0], PHOTOGRAPH.astype(np.float32), PHOTOGRAPH[..., :2]])
def test_refuses_to_encode_or_resize_other_arrays(image):
    with pytest.raises(TensorError):
        encode_png(image)
    with pytest.raises(TensorError):
        resize(image, 32)


def test_identity_resize_to_the_shorter_side_only_crops():
    assert np.array_equal(resize(PHOTOGRAPH, 48), PHOTOGRAPH[:, 8:56])
    assert np.array_equal(resize(PHOTOGRAPH[:, :48], 48), PHOTOGRAPH[:, :48])


@pytest.mark.parametrize(("shape", "size"), [((300, 450), 32), ((390, 260), 32), ((320, 480), 64), ((64, 96), 128)])
def test_agrees_with_torchvision_resize_and_centre_crop(shape, size):
    image = np.ascontiguousarray(data.coffee()[: shape[0], : shape[1]])
    scaled = pil_to_tensor(torchvision_resize(to_pil_image(image), size, InterpolationMode.BILINEAR, antialias=True))
    scaled = scaled.permute(1, 2, 0).numpy()
    top, left = (scaled.shape[0] - size) // 2, (scaled.shape[1] - size) // 2
    expected = scaled[top : top + size, left : left + size]
    # Where the longer side scales to a whole number (torchvision cuts it down to one) only rounding may differ.
    assert np.abs(resize(image, size).astype(int) - expected).max() <= 1


def test_identity_resize_of_a_very_long_image_computes_only_the_square():
    image = np.zeros((8, 400_000, 3), np.uint8)  # scaled as a whole, it would take 33 GB
    image[:, 200_000 - 4 : 200_000 + 4] = 200
    assert np.array_equal(resize(image, 224)[:, 112], np.full((224, 3), 200, np.uint8))


def png(header: bytes, *compressed: bytes) -> bytes:
    """A PNG file from its header fields and the pieces of its compressed rows."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + b"".join(png_chunk(b"IDAT", piece) for piece in compressed)
        + png_chunk(b"IEND", b"")
    )

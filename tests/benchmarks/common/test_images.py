from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from stl_ray.metrics import dissimilarity


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    import importlib

    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3]))
    return importlib.import_module("benchmarks.common.images")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures of different sizes and kinds, one level down."""
    (tmp_path / "below").mkdir()
    generator = np.random.default_rng(0)
    for index, suffix in enumerate(("png", "jpg", "jpeg", "webp", "PNG")):
        pixels = generator.integers(0, 256, (40 + index, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "below" / f"{index}.{suffix}")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_identity_photographs_come_in_turns_clean_and_noisy(images: ModuleType) -> None:
    found = images.load_images(32, 8, None).pixels
    again = images.load_images(32, 8, None).pixels
    assert found.shape == (8, 3, 32, 32)
    assert torch.equal(found, again)
    assert found.min() >= 0
    assert found.max() <= 1
    torch.testing.assert_close(found * 255, (found * 255).round(), rtol=0, atol=1e-4)
    clean = torch.stack(images._photographs(32, 8))
    assert torch.equal(found[::2], clean[::2])
    apart = dissimilarity(found[1::2], clean[1::2])
    # Clipping takes a part of it away; rounding moves the few grey levels of noise in a dark image by up to a half.
    assert (apart > 0.06).all()
    assert (apart < 0.09).all()
    assert len({image.numpy().tobytes() for image in found}) == 8


def test_identity_pictures_of_ones_own_folder(images: ModuleType, folder: Path) -> None:
    found = images.load_images(32, 5, folder)
    assert found.pixels.shape == (5, 3, 32, 32)
    assert folder.name in found.source
    assert str(folder) not in found.source
    assert found.dictionary.filters.shape == (64, 3, 8, 8)


def test_refuses_fewer_images_than_asked_for(images: ModuleType, folder: Path) -> None:
    with pytest.raises(SystemExit, match=r"has 5.*--data"):
        images.load_images(32, 6, folder)


def test_agrees_with_bilinear_interpolation_by_hand(images: ModuleType) -> None:
    """Halving without antialiasing takes the mean of the four pixels around the new centre; a quarter, not of sixteen."""
    levels = torch.randint(256, (3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    whole = levels.float()
    half = (whole[:, ::2, ::2] + whole[:, 1::2, ::2] + whole[:, ::2, 1::2] + whole[:, 1::2, 1::2]) / 4
    torch.testing.assert_close(images._resized(levels, 16) * 255, half.round(), rtol=0, atol=1e-3)
    inner = whole[:, 1::4, 1::4] + whole[:, 2::4, 1::4] + whole[:, 1::4, 2::4] + whole[:, 2::4, 2::4]
    torch.testing.assert_close(images._resized(levels, 8) * 255, (inner / 4).round(), rtol=0, atol=1e-3)


def test_agrees_with_the_shared_datasets(images: ModuleType, shared_data: Path) -> None:
    for size, source, folder in ((32, "CIFAR-10", "basis_cifar"), (64, "ImageNet", "basis_64")):
        found = images.load_images(size, 3, shared_data)
        assert found.pixels.shape == (3, 3, size, size)
        assert source in found.source
        assert folder in found.dictionary_source
        assert found.dictionary.lmbda == images.LMBDA

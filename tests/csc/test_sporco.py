"""SPORCO as an independent judge, with the authors' dictionaries on their sample images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stl_ray.csc import Dictionary, SolveStatus, reconstruct

pytest.importorskip("sporco")

LMBDA = 0.2

PEER_TOLERANCE = 1e-3
PEER_MEDIAN, PEER_WORST = 5e-4, 1e-3
"""How far SPORCO's T is from the optimum at that RelStopTol: 4e-4 and 8e-4 were measured on these images."""

TIERS = {"default": (5e-3, 2e-2), "reference": (2e-3, 1e-2), "exact": (1e-5, 1e-4)}
"""Ours, relative error of T, median and worst over images."""


@pytest.fixture(scope="module")
def dictionaries(shared_data: Path) -> Path:
    return shared_data / "reference" / "dictionaries"


@pytest.fixture(scope="module")
def samples(shared_data: Path) -> Tensor:
    """(10, 3, 64, 64) RGB, the authors' ten sample images: in turns the original and the attacked one of a pair."""
    names = sorted(int(path.name.split("_")[0]) for path in (shared_data / "reference/samples_64/clean").iterdir())
    images = []
    for index, name in enumerate(names):
        kind = ("clean", "fgsm_0.08")[index % 2]
        (file,) = (shared_data / "reference" / "samples_64" / kind).glob(f"{name}_*.png")
        images.append(np.array(Image.open(file).convert("RGB")))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def theirs(samples: Tensor, dictionaries: Path) -> Tensor:
    dictionary = Dictionary.from_reference(dictionaries / "basis_64" / "64_p8_lm0.2.npy")
    return torch.stack([by_sporco(image, dictionary, LMBDA) for image in samples[:6]])


@pytest.fixture(scope="module")
def crops(samples: Tensor) -> Tensor:
    """(8, 3, 32, 37), of another sample for each of the authors' dictionaries."""
    return samples[:8, :, 16:48, 8:45].contiguous()


@pytest.fixture(scope="module")
def theirs_by_dictionary(crops: Tensor, dictionaries: Path) -> list[tuple[Dictionary, Tensor]]:
    """Every dictionary of the authors, and SPORCO's T of its crop."""
    found = [Dictionary.from_reference(file) for file in sorted(dictionaries.rglob("*.npy"))]
    return [(d, by_sporco(crop, d, d.lmbda)[None]) for d, crop in zip(found, crops, strict=True)]


@pytest.fixture(params=["admm", "active_set"])
def method(request: pytest.FixtureRequest) -> str:
    if request.param == "active_set" and not pytest.importorskip("stl_ray.csc.native").available():
        pytest.skip("the native core is not built")
    return str(request.param)


def by_sporco(image: Tensor, dictionary: Dictionary, lmbda: float) -> Tensor:
    """T of one image (3, H, W), in float64 from there on."""
    import sporco.fft
    from sporco.admm import cbpdn
    from sporco.signal import tikhonov_filter

    sporco.fft.pyfftw_threads = 1
    options = cbpdn.ConvBPDN.Options({"Verbose": False, "MaxMainIter": 1000, "RelStopTol": PEER_TOLERANCE})
    low, high = tikhonov_filter(image.permute(1, 2, 0).contiguous().numpy(), 5, 16)
    filters = np.ascontiguousarray(dictionary.filters.permute(2, 3, 1, 0).numpy())
    solver = cbpdn.ConvBPDN(filters, high, lmbda, options)
    solver.solve()
    assert solver.k < 1000
    return torch.from_numpy(low + solver.reconstruct().squeeze()).permute(2, 0, 1).double()


def distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Relative to the second, per image."""
    return (ours.double() - theirs).flatten(1).norm(dim=1) / theirs.flatten(1).norm(dim=1)


@pytest.mark.parametrize(
    ("tier", "count"), [pytest.param("default", 6, marks=pytest.mark.faults), ("reference", 6), ("exact", 2)]
)
def test_agrees_with_sporco_on_the_authors_samples(
    samples: Tensor, theirs: Tensor, dictionaries: Path, method: str, tier: str, count: int
) -> None:
    dictionary = Dictionary.from_reference(dictionaries / "basis_64" / "64_p8_lm0.2.npy")
    result = reconstruct(samples[:count], dictionary, LMBDA, method=method, accuracy=tier)
    assert (result.codes.status == SolveStatus.CONVERGED).all()
    apart = distance(result.images, theirs[:count])
    median, worst = TIERS[tier]
    assert apart.median() <= PEER_MEDIAN + median
    assert apart.max() <= PEER_WORST + worst


def test_agrees_with_sporco_for_each_of_the_authors_dictionaries(
    crops: Tensor, theirs_by_dictionary: list[tuple[Dictionary, Tensor]], method: str
) -> None:
    """At the lambda of each, on a crop of another sample for each, at the reference tier."""
    apart = []
    for crop, (dictionary, theirs) in zip(crops, theirs_by_dictionary, strict=True):
        result = reconstruct(crop[None], dictionary, dictionary.lmbda, method=method, accuracy="reference")
        apart.append(distance(result.images, theirs))
    median, worst = TIERS["reference"]
    assert torch.cat(apart).median() <= PEER_MEDIAN + median
    assert torch.cat(apart).max() <= PEER_WORST + worst


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: image.flip(0), id="channel order"),
        pytest.param(lambda image: image.transpose(1, 2).contiguous(), id="rows for columns"),
    ],
)
def test_refuses_by_far_another_convention(
    samples: Tensor, theirs: Tensor, dictionaries: Path, change: Callable[[Tensor], Tensor]
) -> None:
    """Had we another convention than the authors' files, these tests would see it."""
    dictionary = Dictionary.from_reference(dictionaries / "basis_64" / "64_p8_lm0.2.npy")
    result = reconstruct(change(samples[1])[None], dictionary, LMBDA, accuracy="reference")
    assert distance(change(result.images[0])[None], theirs[1:2]) > PEER_WORST + TIERS["reference"][1]

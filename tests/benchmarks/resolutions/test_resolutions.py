"""The benchmark of resolutions runs and compares like with like."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stl_ray.csc.learning.block import WINDOW
from stl_ray.images import resize, to_uint8
from stl_ray.space import Autoencoder, Router, encode, fit_clusters, hash_ids, thumbnails

pytest.importorskip("sporco")

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("results") / "resolutions.md"
    command = [
        sys.executable,
        "-m",
        "benchmarks.resolutions",
        "--quick",
        "--images",
        "4",
        "--holdout",
        "2",
        "--output",
        str(output),
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    assert output.read_text(encoding="utf-8").strip() == ran.stdout.strip()
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    return ran.stdout


def rows(page: str, heading: str) -> list[list[str]]:
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return table[2:]


@pytest.mark.faults
def test_identity_ratios_are_of_the_objectives_below(page: str) -> None:
    ratios, objectives = (
        rows(page, "Objective over that of the dictionary learned at that size"),
        {row[0]: [float(cell) for cell in row[1:]] for row in rows(page, "Objective per pixel")},
    )
    assert [row[0] for row in ratios] == list(objectives) == [
        "learned at 32", "learned at 64", "learned at 32, 16 images"
    ]  # fmt: skip
    for index, own in enumerate(("learned at 32", "learned at 64")):
        for name, *cells in ratios:
            expected = objectives[name][index] / objectives[own][index]
            assert float(cells[index].split(" ")[0]) == pytest.approx(expected, rel=1e-3)
            assert (cells[index] == "1") == (name == own)


def test_identity_objectives_are_of_a_pixel(load) -> None:
    page, heldout = load("resolutions.page"), load("common.heldout")
    judgements = {
        (name, size): heldout.HoldoutScore(torch.tensor([value, value + 2]).double(), 0.003, 28.0)
        for name, size, value in (("a", 10, 1.0), ("a", 20, 5.0), ("b", 10, 3.0), ("b", 20, 4.0))
    }
    result = page.Result("images", 8, 2, 2, [10, 20], {"a": "3", "b": "4"}, ["a", "b"], judgements, None)
    text = page.report(result, "command", 1.0, None)
    assert rows(text, "Objective per pixel") == [["a", "20", "15"], ["b", "40", "12.5"]]
    ratios = rows(text, "Objective over that of the dictionary learned at that size")
    assert ratios == [["a", "1", "1.2000 (1.2000 to 1.2000)"], ["b", "2.0000 (2.0000 to 2.0000)", "1"]]
    assert "iterations: 3 a, 4 b." in text
    assert text.rstrip().endswith("- routing")


@pytest.mark.faults
def test_identity_every_table_is_there(page: str) -> None:
    for heading, low, high in (("PSNR, dB", 15, 60), ("Sparsity, %", 0.01, 5)):
        assert all(low < float(cell) < high for row in rows(page, heading) for cell in row[1:])
    routed = rows(page, "Routing")
    assert [row[0] for row in routed] == ["32"]
    assert 0 <= float(routed[0][1].split(" ")[0]) <= 100
    assert "routing" not in page.split("## Not measured")[1]


def test_identity_help_teaches(load) -> None:
    text = load("resolutions.__main__")._parser().format_help()
    assert "examples:" in text
    assert "--routing" in text


def test_identity_fewer_pixels_are_made_up_for(load) -> None:
    matching = load("resolutions.__main__")._matching
    assert matching(32, 10) * 32**2 == 10 * WINDOW**2
    assert matching(WINDOW, 10) == matching(224, 10) == 0


def test_agrees_with_what_ingest_makes_of_an_image(load, natural_images: Tensor) -> None:
    levels = list(to_uint8(natural_images[:2]))
    found = load("resolutions.__main__").at(20, levels)
    assert (to_uint8(found)[1] == resize(levels[1], 20)).all()


def test_identity_routing_is_compared_with_the_largest_size(load, natural_images: Tensor) -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder().eval()
    latents = encode(autoencoder, thumbnails(natural_images, 32))
    clusters = fit_clusters(latents, clusters=2, pca_components=8, restarts=3, seed=0)
    router = Router(autoencoder, clusters, hash_ids([f"{i}" for i in range(24)]), neighbours=3)
    small = natural_images.flip(0)  # other photographs, so that clusters differ
    large = torch.nn.functional.interpolate(natural_images, scale_factor=2)
    found = load("resolutions.__main__").route(router, 64, {32: small, 64: large}, 24)
    assert torch.equal(found.clusters[32], router.vote(router.latents(small)))
    assert found.moved[64].max() == 0
    torch.testing.assert_close(found.moved[32], (router.latents(small) - router.latents(large)).double().norm(dim=1))
    same = int((found.clusters[32] == found.clusters[64]).sum())
    assert 0 < same < 24
    (row,) = load("resolutions.page")._routing_rows(found)
    assert row[0] == "32"
    assert float(row[1].split(" ")[0]) == pytest.approx(100 * same / 24, abs=0.06)

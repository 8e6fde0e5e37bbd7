"""The benchmark of the strata runs and measures what its page says; what a space is worth, no test can tell."""

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from torch import Tensor

from stl_ray.csc import Dictionary, split_bands
from stl_ray.images import encode_png, image_schema, to_uint8
from stl_ray.models import build_classifier
from stl_ray.space import Autoencoder, QuasiNaturalSpace, Router, encode, fit_clusters, hash_ids, thumbnails
from stl_ray.statistics import mcnemar, paired_difference

pytest.importorskip("sporco")

ROOT = Path(__file__).resolve().parents[3]
KS = (1, 3, 5, 9, 15)
"""Of the benchmark's, those that 24 references suffice for."""


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.fixture(scope="module")
def space(natural_images: Tensor) -> QuasiNaturalSpace:
    """Two strata of mirrored images: an untrained autoencoder, random filters."""
    torch.manual_seed(0)
    filters = torch.randn((3, 12, 3, 8, 8))
    filters /= filters.flatten(2).norm(dim=2)[:, :, None, None, None]
    universal, *own = (Dictionary(values, 0.2) for values in filters)
    autoencoder = Autoencoder().eval()
    latents = encode(autoencoder, thumbnails(natural_images.flip(-1), 32))
    clusters = fit_clusters(latents, clusters=2, pca_components=8, restarts=3, seed=0)
    router = Router(autoencoder, clusters, hash_ids([f"train/{i}" for i in range(24)]), neighbours=15)
    record = {"images": 24, "seed": 7, "dictionaries": {"cluster_1": {"images": 5, "iterations": 3}}}
    return QuasiNaturalSpace(universal, tuple(own), 0.2, router, 16, record)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory, natural_images: Tensor, space: QuasiNaturalSpace) -> Path:
    """A data folder with test images of 16 pixels, weights of an untrained classifier, and the space beside them."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "cifar10").mkdir()
    (folder / "weights").mkdir()
    rows = [
        {"id": f"test/{i}", "image": {"bytes": encode_png(image), "path": None}, "label": i % 10}
        for i, image in enumerate(to_uint8(natural_images[..., ::2, ::2]))
    ]
    schema = image_schema("image", [str(label) for label in range(10)])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "cifar10" / "test-00000-of-00001.parquet")
    weights = build_classifier("cifar_resnet56", [str(label) for label in range(10)], seed=0).backbone.state_dict()
    safetensors.torch.save_file(weights, folder / "weights" / "cifar10_resnet56.safetensors")
    space.save(str(folder / "space"))
    return folder


def run(setting: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    given = ["--data", str(setting), "--images", "8", "--training", "20", *arguments]
    command = [sys.executable, "-m", "benchmarks.strata", *given]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def page(setting: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("results") / "strata.md"
    ran = run(setting, "--space", str(setting / "space"), "--output", str(output))
    assert ran.returncode == 0, ran.stderr
    assert output.read_text(encoding="utf-8").strip() == ran.stdout.strip()
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    return ran.stdout


def rows(page: str, heading: str, table: int = 0) -> list[list[str]]:
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    blocks = [block for block in section.split("\n\n") if block.startswith("|")]
    return [line.strip("| ").split(" | ") for line in blocks[table].splitlines()][2:]


@pytest.mark.faults
def test_identity_every_table_has_every_row(page: str) -> None:
    attacks = ["FGSM-0.08", "FGSM-0.04", "BIM-0.03"]
    assert [row[0] for row in rows(page, "Attacks")] == attacks
    for row in rows(page, "Attacks"):
        ended = {words.split(" ")[1]: int(words.split(" ")[0]) for words in row[3].split(", ")}
        assert sum(ended.values()) == 8
        # An untrained network may have no gradient to follow.
        reached = 1 - (ended.get("budget_unreachable", 0) + ended.get("no_gradient", 0)) / 8
        assert 0.98 * reached * float(row[1]) - 1e-4 < float(row[2]) <= float(row[1])
    assert [row[0] for row in rows(page, "Routing")] == [*(f"k = {k}" for k in KS), "nearest centroid"]
    assert len(rows(page, "Latent distances")) == 6
    choices = ["universal", "cluster", "another cluster's"]
    assert [row[0] for row in rows(page, "Stratified beside universal: the projection")] == choices
    verdicts = "Stratified beside universal: verdicts"
    assert [row[0] for row in rows(page, verdicts)] == ["no defense", *choices]
    assert [row[1] for row in rows(page, verdicts, 1)] == 3 * ["Clean", *attacks]
    assert len(rows(page, "Autoencoder and speed")) == 3


def test_identity_a_comparison_is_of_the_first_with_the_second(load) -> None:
    first, second = (torch.tensor([bool(int(x)) for x in bits]) for bits in ("1111100000", "1110000001"))
    found = load("strata.projection").compare(first, second)
    assert (found.only_first, found.only_second) == (2, 1)
    assert found.difference == pytest.approx(paired_difference(3, 2, 1, 4))
    assert found.difference.estimate == pytest.approx(0.1)
    assert found.p == mcnemar(2, 1)


@pytest.mark.faults
def test_identity_the_strata_are_those_of_the_space(page: str, space: QuasiNaturalSpace) -> None:
    found = rows(page, "The strata")
    assert space.router is not None
    assert [row[0] for row in found] == ["universal", "cluster_0", "cluster_1"]
    assert [int(row[1]) for row in found] == [24, *space.router.clusters.sizes]
    assert int(found[1][4]) + int(found[2][4]) == int(found[0][4]) == 8
    assert found[2][2:4] == ["5", "3"]


@pytest.mark.faults
def test_invariant_the_page_tells_how_it_was_made_and_nothing_of_this_machine(page: str, setting: Path) -> None:
    given = f"--data {setting.name} --images 8 --training 20 --space space --output strata.md"
    assert f"python -m benchmarks.strata {given}" in page
    assert "](strata.png)" in page
    assert "training images 24, seed 7" in page
    assert "## Not measured" in page
    assert str(ROOT) not in page
    assert "/tmp" not in page


def test_refuses_a_space_without_strata_or_fitted_on_the_test_images(
    load, setting: Path, space: QuasiNaturalSpace, tmp_path: Path
) -> None:
    main = load("strata.__main__").main
    assert space.router is not None
    space.universal().save(str(tmp_path / "universal"))
    router = replace(space.router, reference_ids=hash_ids([f"test/{i}" for i in range(24)]))
    replace(space, router=router).save(str(tmp_path / "leaky"))
    for name, message in (("universal", "two clusters"), ("leaky", "8 of these test images"), ("none", "none")):
        with pytest.raises(SystemExit, match=message):
            main(["--data", str(setting), "--images", "8", "--space", str(tmp_path / name)])


def test_identity_help_teaches(load) -> None:
    text = load("strata.__main__")._parser().format_help()
    assert "examples:" in text
    assert "--space" in text


def test_agrees_with_the_routers_own_vote_at_every_k(load, space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    router = space.router
    assert router is not None
    latents = {"clean": router.latents(natural_images), "attacked": router.latents(1 - natural_images)}
    *voted, centroid = load("strata.routing").assignments(router, latents, 100)
    assert [one.neighbours for one in voted] == list(KS)
    ids = [f"train/{i}" for i in range(24)]
    for one in voted:
        own = replace(router, neighbours=one.neighbours)
        for name, points in latents.items():
            assert torch.equal(one.clusters[name], own.vote(points))
        again = own.vote(router.clusters.latents, exclude=ids)
        assert one.training == 24
        assert one.own == int((again == router.clusters.labels).sum())
        assert one.tied == 0  # two clusters and an odd k
    for name, points in latents.items():
        assert torch.equal(centroid.clusters[name], router.nearest_centroid(points))


def test_identity_ties_are_counted(load) -> None:
    labels = torch.tensor([[0, 1, 2, 1], [0, 1, 1, 0], [2, 0, 1, 0], [0, 1, 2, 3]])
    assert load("strata.routing")._tied(labels) == 2


def assignment(load, k: int | None, clean: list[int], attacked: list[int]):
    clusters = {"clean": torch.tensor(clean), "attack": torch.tensor(attacked)}
    return load("strata.routing").Assignment(f"k = {k}", k, clusters, 0, 1, 1)


def test_identity_the_rule_keeps_k_unless_another_misses_significantly_fewer(load) -> None:
    decide, truth = load("strata.routing").decide, 20 * [0]
    centroid = assignment(load, None, truth, truth)
    changed = assignment(load, 1, truth, 12 * [1] + 8 * [0])
    left = assignment(load, 3, 12 * [1] + 8 * [0], 12 * [1] + 8 * [0])  # the attack changes nothing, yet it is wrong
    best = assignment(load, 5, truth, 20 * [0])
    close = assignment(load, 9, truth, 3 * [1] + 17 * [0])
    found = [changed, left, best, close, centroid]
    assert left.changed("attack").sum() == 0
    assert left.missed(torch.tensor(truth)).sum() == changed.missed(torch.tensor(truth)).sum() == 12
    for neighbours, chosen, only in ((1, best, 12), (3, best, 12), (9, close, 3), (5, best, 0)):
        decision = decide(found, neighbours)
        assert decision.best is best
        assert decision.chosen is chosen
        assert (decision.only_current, decision.only_best) == (only, 0)
        assert decision.p == pytest.approx(min(1, 3 * 2 * 0.5**only))


def test_agrees_with_distances_between_all(load, space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    router = space.router
    assert router is not None
    latents = {name: router.latents(images) for name, images in (("clean", natural_images), ("x", 1 - natural_images))}
    found = load("strata.routing").distances(router, latents)
    clean = latents["clean"].double()
    every = (clean[:, None] - router.clusters.latents.double()).norm(dim=2).sort(1).values
    torch.testing.assert_close(found.nearest, every[:, 0])
    torch.testing.assert_close(found.far, every[:, 14])
    torch.testing.assert_close(found.attacked["x"], (clean - latents["x"].double()).norm(dim=1))
    between = (clean[:, None] - clean).norm(dim=2)
    for row, value in enumerate(found.pairs):
        others = torch.cat([between[row, :row], between[row, row + 1 :]])
        assert (others - value).abs().min() < 1e-12


def test_invariant_another_stratum_is_never_the_own_one_and_is_the_images_own(load) -> None:
    another = load("strata.projection").another
    clusters = torch.arange(300) % 3
    ids = [f"image/{i}" for i in range(300)]
    others = another(clusters, ids, 3)
    assert (others != clusters).all()
    assert set(others.tolist()) == {0, 1, 2}
    assert 0.4 < ((others - clusters) % 3 == 1).double().mean() < 0.6
    order = torch.randperm(300)
    assert torch.equal(another(clusters[order], [ids[i] for i in order], 3), others[order])


def test_agrees_with_the_objective_of_the_high_band(load, space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    projection, clusters = load("strata.projection"), {"clean": torch.arange(24) % 2}
    found = projection.judge(projection.Choice("cluster", space, clusters), natural_images)
    for cluster, dictionary in enumerate(space.dictionaries):
        own = load("common.heldout").judge(dictionary, split_bands(natural_images[cluster::2])[1])
        torch.testing.assert_close(found.objectives[cluster::2], own.objectives, rtol=1e-5, atol=0)


def test_invariant_noise_belongs_to_the_image(load, space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    denoise, router, ids = load("strata.autoencoder").denoise, space.router, [f"test/{i}" for i in range(24)]
    assert router is not None
    grey = denoise(router.autoencoder, torch.full((2, 3, 32, 32), 0.5), ids[:2])
    assert grey.noisy[0] != grey.noisy[1]
    every = denoise(router.autoencoder, natural_images, ids)
    few = denoise(router.autoencoder, natural_images[5:7], ids[5:7])
    assert torch.equal(few.noisy, every.noisy[5:7])
    assert torch.equal(few.denoised, every.denoised[5:7])
    assert every.noisy.median() == pytest.approx(16.9, abs=1)  # -20 log10(0.15) is 16.5, less where noise is clipped


def test_roundtrip_stored_images_are_those_of_the_file(load, setting: Path, natural_images: Tensor) -> None:
    stored = load("common.stored_images").stored_images
    found, fewer = stored("cifar10/test", 24, setting), stored("cifar10/test", 5, setting)
    assert fewer.ids == found.ids[:5]
    assert sorted(found.ids) == sorted(f"test/{i}" for i in range(24))
    levels = to_uint8(natural_images[..., ::2, ::2])
    for image, name, label in zip(found.levels, found.ids, found.labels.tolist(), strict=True):
        number = int(name.removeprefix("test/"))
        assert label == number % 10
        assert (image == levels[number]).all()
    with pytest.raises(SystemExit, match="has 24"):
        stored("cifar10/test", 25, setting)
    with pytest.raises(SystemExit, match=r"val-\*\.parquet is needed"):
        stored("imagenet10/val", 1, setting)

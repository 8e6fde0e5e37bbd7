import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stl_ray.csc import Dictionary
from stl_ray.errors import ArtifactError
from stl_ray.report import space as report_space
from stl_ray.space import (
    Autoencoder,
    QuasiNaturalSpace,
    Router,
    encode,
    fit_clusters,
    hash_ids,
    storage,
    thumbnails,
    with_references,
)
from stl_ray.store import load_artifact, save_artifact


def test_roundtrip_keeps_every_bit(space: QuasiNaturalSpace, natural_images: Tensor, tmp_path: Path) -> None:
    digest = space.save(str(tmp_path))
    loaded = QuasiNaturalSpace.load(str(tmp_path))
    assert loaded.digest == space.digest
    assert loaded.dictionaries == space.dictionaries
    assert loaded.resolution == 32
    assert loaded.provenance == {"images": 24}
    ours, theirs = (each.project(natural_images[::6]) for each in (space, loaded))
    for field in ("images", "clusters", "status", "iterations", "sparsity"):
        assert torch.equal(getattr(theirs, field), getattr(ours, field))
    assert loaded.samples is None
    assert loaded.save(str(tmp_path / "again")) == digest


def test_roundtrip_of_samples_sizes_and_a_sample_of_references(
    space: QuasiNaturalSpace, ids: list[str], tmp_path: Path
) -> None:
    assert space.router is not None
    clusters, kept = with_references(space.router.clusters, hash_ids(ids), 10, seed=0)
    samples = torch.arange(3 * 2 * 3 * 32 * 32).reshape(3, 2, 3, 32, 32).to(torch.uint8)
    space = replace(space, router=replace(space.router, clusters=clusters, reference_ids=kept), samples=samples)
    digest = space.save(str(tmp_path))
    loaded = QuasiNaturalSpace.load(str(tmp_path))
    assert loaded.router is not None
    assert loaded.router.clusters.sizes == clusters.sizes
    assert sum(clusters.sizes) == 24
    assert torch.equal(loaded.router.clusters.latents, clusters.latents)
    assert loaded.samples is not None
    assert torch.equal(loaded.samples, samples)
    assert loaded.digest == space.digest == replace(space, samples=None).digest
    assert loaded.save(str(tmp_path / "again")) == digest


def test_roundtrip_of_the_larger_autoencoder(
    dictionaries: tuple[Dictionary, ...], natural_images: Tensor, ids: list[str], tmp_path: Path
) -> None:
    autoencoder = Autoencoder(64).eval()
    latents = encode(autoencoder, thumbnails(natural_images, 64))
    clusters = fit_clusters(latents, clusters=3, pca_components=8, restarts=3, seed=0)
    router = Router(autoencoder, clusters, hash_ids(ids), neighbours=3)
    space = QuasiNaturalSpace(dictionaries[3], dictionaries[:3], 0.2, router)
    space.save(str(tmp_path))
    loaded = QuasiNaturalSpace.load(str(tmp_path))
    assert loaded.router is not None
    assert loaded.router.autoencoder.side == 64
    assert loaded.digest == space.digest
    assert torch.equal(loaded.latents(natural_images), space.latents(natural_images))


def test_agrees_with_the_report_s_version() -> None:
    """The report reads spaces too, without this room, which loads torch."""
    assert (storage.KIND, storage.VERSION) == (report_space.KIND, report_space.VERSION)


def test_roundtrip_without_clusters(space: QuasiNaturalSpace, tmp_path: Path) -> None:
    universal = replace(space.universal(), lmbda=0.15)
    universal.save(str(tmp_path))
    loaded = QuasiNaturalSpace.load(str(tmp_path))
    assert loaded.router is None
    assert loaded.lmbda == 0.15
    assert loaded.digest == universal.digest


def test_roundtrip_names_of_the_format(space: QuasiNaturalSpace, tmp_path: Path) -> None:
    space.save(str(tmp_path))
    artifact = load_artifact(str(tmp_path), "space", 2)
    assert artifact.arrays["universal"].shape == (12, 3, 8, 8)
    assert artifact.arrays["dictionaries"].shape == (3, 12, 3, 8, 8)
    assert artifact.arrays["reference_ids"].dtype == "int64"
    named = {"reference_latents", "reference_clusters", "pca_mean", "pca_components", "centroids"}
    assert named < set(artifact.arrays)
    assert any(name.startswith("autoencoder.encoder") for name in artifact.arrays)
    assert artifact.meta["lmbda"] == 0.2
    assert artifact.meta["norm"] == "joint"
    assert artifact.meta["neighbours"] == 3
    assert artifact.meta["side"] == 32
    assert sum(artifact.meta["sizes"]) == 24


def _flip_a_byte(folder: Path) -> None:
    path = folder / "space.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def _truncate(folder: Path) -> None:
    path = folder / "space.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def _edit(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "space.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


@pytest.mark.parametrize(
    "damage",
    [
        _flip_a_byte,
        _truncate,
        lambda folder: (folder / "space.json").unlink(),
        lambda folder: (folder / "space.safetensors").unlink(),
        lambda folder: (folder / "space.json").write_text("{"),
        lambda folder: (folder / "space.json").write_text("[]"),
        _edit(version=1),
        _edit(format="model"),
        _edit(meta={}),
    ],
)
def test_refuses_a_damaged_space(space: QuasiNaturalSpace, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    space.save(str(tmp_path))
    damage(tmp_path)
    with pytest.raises(ArtifactError):
        QuasiNaturalSpace.load(str(tmp_path))


@pytest.mark.parametrize("change", ["norms", "missing", "clusters", "weights", "meta", "side", "sizes"])
def test_refuses_parts_that_do_not_fit(space: QuasiNaturalSpace, tmp_path: Path, change: str) -> None:
    space.save(str(tmp_path))
    artifact = load_artifact(str(tmp_path), "space", 2)
    arrays, meta = dict(artifact.arrays), dict(artifact.meta)
    match change:
        case "norms":
            arrays["universal"] = arrays["universal"] * 2
        case "missing":
            del arrays["pca_mean"]
        case "clusters":
            arrays["dictionaries"] = arrays["dictionaries"][:2]
        case "weights":
            del arrays["autoencoder.encoder.0.0.weight"]
        case "meta":
            del meta["norm"]
        case "side":
            meta["side"] = 64
        case "sizes":
            meta["sizes"] = None
    save_artifact(str(tmp_path), "space", 2, arrays, meta)
    with pytest.raises(ArtifactError, match="do not fit"):
        QuasiNaturalSpace.load(str(tmp_path))

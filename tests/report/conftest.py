"""A finished experiment as files: written in the formats that the jobs write, with made-up figures."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from stl_ray.config import (
    ClassifierConfig,
    Experiment,
    IngestConfig,
    NamedDefense,
    Retraining,
    Source,
    SpaceConfig,
)
from stl_ray.report.records import GalleryRow, Scores
from stl_ray.statistics import mcnemar, paired_difference, wilson
from stl_ray.store import save_artifact

IMAGES = 200
CLASS_NAMES = ["astronaut", "coffee", "chelsea"]
DEFENSES = ("none", "jpeg", "stl", "stl_cluster")
ATTACKS = ("clean", "fgsm-0.08", "fgsm-0.04", "bim-0.03")
CORRECT = {
    "vanilla": {"none": (166, 16, 74, 78), "jpeg": (162, 20, 80, 84), "stl": (150, 46, 88, 80), "stl_cluster": (152, 47, 90, 97)},
    "retrained": {"none": (166, 16, 74, 78), "jpeg": (160, 22, 76, 60), "stl": (140, 36, 95, 99), "stl_cluster": (141, 38, 96, 100)},
}  # fmt: skip


def score_cell(setting: str, defense: str, attack: str, correct: int, undefended: int) -> dict[str, Any]:
    """A cell in which the defense keeps as many as it can of the images that no defense has right."""
    both = min(correct, undefended)
    gained, lost = correct - both, undefended - both
    difference = paired_difference(both, gained, lost, IMAGES - both - gained - lost)
    versus_none = dict(zip(("difference", "low", "high"), difference, strict=True), p=mcnemar(gained, lost))
    interval = wilson(correct, IMAGES)
    return {
        "setting": setting,
        "defense": defense,
        "attack": attack,
        "threat": "T0" if attack == "clean" else "T1a",
        "correct": correct,
        "total": IMAGES,
        "accuracy": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "float_disagreements": 0 if defense == "none" else 2,
        "psnr": None
        if (defense, attack) == ("none", "clean")
        else 27.0 + DEFENSES.index(defense) - ATTACKS.index(attack),
        "cluster_changed": 0.045 if defense == "stl_cluster" and attack != "clean" else None,
        "statuses": {"applied" if defense in ("none", "jpeg") else "converged": IMAGES},
        "detection": None,
        "versus_none": None if defense == "none" else versus_none,
    }


def scores() -> dict[str, Any]:
    """scores.json as a dict."""
    return {
        "format": "scores",
        "version": 3,
        "images": IMAGES,
        "ids_sha256": "ab" * 32,
        "classifier": "vanilla",
        "architecture": "small_cnn",
        "class_names": CLASS_NAMES,
        "chance": 1 / len(CLASS_NAMES),
        "cells": [
            score_cell(setting, defense, attack, rows[defense][column], rows["none"][column])
            for setting, rows in CORRECT.items()
            for defense in DEFENSES
            for column, attack in enumerate(ATTACKS)
        ],
        "attacks": {
            attack: {
                "images": IMAGES,
                "statuses": {"ok": 166, "already_wrong": 34, "budget_unreachable": 0},
                "successes": 166 - CORRECT["vanilla"]["none"][column],
                "dissimilarity": {"min": 0.0391, "mean": 0.0399, "max": 0.04},
                "linf_max": 0.0627,
            }
            for column, attack in enumerate(ATTACKS)
            if attack != "clean"
        },
    }


def png(image: np.ndarray) -> bytes:
    """PNG bytes of a (H, W, 3) float image in [0, 1]."""
    buffer = io.BytesIO()
    Image.fromarray((image * 255).round().clip(0, 255).astype(np.uint8)).save(buffer, format="png")
    return buffer.getvalue()


def gallery_rows(images: torch.Tensor) -> list[dict[str, Any]]:
    """Four images x attacks x defenses; noise for the attack, smoothing for the defenses."""
    generator = np.random.default_rng(0)
    rows = []
    for number, image in enumerate(images[::6].permute(0, 2, 3, 1).numpy()):
        for attack in ATTACKS[1:]:
            adversarial = image + 0.06 * np.sign(generator.standard_normal(image.shape))
            for strength, defense in enumerate(DEFENSES[1:]):
                mean = sum(np.roll(adversarial, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 9
                purified = adversarial + (strength + 1) / 3 * (mean - adversarial)
                label = number * 6 // 8
                rows.append(
                    {
                        "id": f"test/{number:05d}",
                        "label": label,
                        "attack": attack,
                        "defense": defense,
                        "adversarial": png(adversarial),
                        "purified": png(purified),
                        "clean": png(image),
                        "pred_before": (label + 1) % 3,
                        "pred_after": (label + (strength == 0)) % 3,
                        "right_before": False,
                        "refused_after": False,
                        "right_after": strength != 0,
                    }
                )
    return rows


def filters(count: int, seed: int) -> np.ndarray:
    """(count, 3, 8, 8) float32 oriented waves."""
    generator = np.random.default_rng(seed)
    row, column = np.mgrid[:8, :8]
    angle, wave = generator.uniform(0, np.pi, (2, count, 1, 1, 1))
    pattern = np.cos((row * np.cos(angle) + column * np.sin(angle)) * (0.5 + wave / 2))
    coloured = pattern * generator.uniform(-1, 1, (count, 3, 1, 1))
    return (coloured - coloured.mean(axis=(2, 3), keepdims=True)).astype(np.float32)


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """A file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_json(path: Path, value: Any) -> None:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _session(job: str, number: int) -> dict[str, Any]:
    return {
        "job": job,
        "outcome": "done",
        "started": f"2026-01-02T10:{number:02d}:00+00:00",
        "finished": f"2026-01-02T10:{number:02d}:30+00:00",
        "seconds": 30.0 + 40 * number,
        "images": 2100 if job != "fit" else 0,
        "quarantined": 0,
        "cpus": 2,
        "gpus": 0,
        "machine": "x86_64, Linux",
        "versions": {"stl-ray": "0.1.0", "torch": "2.15.0", "ray": "2.60.0"},
        "config_digest": "cd" * 32,
        "commit": "0123456789abcdef0123456789abcdef01234567",
    }


def _step(iteration: int, level: float) -> dict[str, Any]:
    return {
        "iteration": iteration,
        "objective": level * (3 + 9 / iteration),
        "holdout_objective": level * (3.4 + 9 / iteration),
        "sparsity": 0.02 + 0.03 / iteration,
        "psnr": 26 + 3 * level - 4 / iteration,
        "converged": iteration == 20 and level < 1.75,
    }


SIZES = [412, 388, 501, 299]
CANDIDATES = [
    {"clusters": m, "inertia": 90 / m, "silhouette": 0.3 - abs(m - 4) / 40, "sizes": [1600 // m] * m}
    for m in (2, 3, 4, 6, 8)
]
NAMES = ("universal", "cluster_0", "cluster_1", "cluster_2", "cluster_3")


def space_parts() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the record of a space of four clusters."""
    generator = np.random.default_rng(1)
    arrays = {
        "universal": filters(64, 0),
        "dictionaries": np.stack([filters(64, seed) for seed in range(1, 5)]),
        "centroids": np.zeros((4, 20), np.float32),
        "reference_latents": np.zeros((1600, 20), np.float32),
        "samples": generator.integers(0, 256, (4, 9, 3, 32, 32), dtype=np.uint8),
    }
    learned = {"method": "consensus", "images": 200, "holdout": 32, "iterations": 20, "converged": True}
    learned |= {"objective": 4.25, "sparsity": 0.0215, "psnr": 28.5}
    provenance = {
        "fit": {"clusters": 4},
        "seed": 7,
        "dataset": "ef" * 32,
        "images": 1600,
        "autoencoder": {"epochs": 20, "validation_loss": 0.52, "psnr": 21.75, "noisy_psnr": 17.25},
        "clusters": {"sizes": SIZES, "candidates": CANDIDATES},
        "dictionaries": {name: learned | {"converged": name != "cluster_3"} for name in NAMES},
    }
    meta = {"lmbda": 0.2, "norm": "joint", "universal_lmbda": 0.2, "dictionary_lmbdas": [0.2] * 4, "neighbours": 15}
    meta |= {"side": 32, "sizes": SIZES, "resolution": 32, "content_digest": "ab" * 32, "provenance": provenance}
    return arrays, meta


@pytest.fixture
def counts() -> dict[str, dict[str, tuple[int, ...]]]:
    """Correct images of IMAGES by setting, defense and attack."""
    return CORRECT


@pytest.fixture
def measured() -> Scores:
    """The scores."""
    return Scores.model_validate(scores())


@pytest.fixture
def bim_rows(natural_images: torch.Tensor) -> list[GalleryRow]:
    """The gallery's rows of one attack."""
    return [GalleryRow.model_validate(row) for row in gallery_rows(natural_images) if row["attack"] == "bim-0.03"]


@pytest.fixture
def parts() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the record of a space of four clusters."""
    return space_parts()


@pytest.fixture
def bank() -> np.ndarray:
    """(6, 3, 8, 8) float32 filters."""
    return filters(6, 0)


@pytest.fixture
def experiment_root(finished: Path, tmp_path: Path) -> Path:
    """A copy of `finished` to change."""
    return Path(shutil.copytree(finished, tmp_path / "experiment"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, natural_images: torch.Tensor) -> Path:
    """The folder of an experiment that all jobs before `report` have finished."""
    root = tmp_path_factory.mktemp("finished")
    photographs = Source(format="photographs")
    experiment = Experiment(
        name="quickstart",
        root="out",
        ingest=IngestConfig(train=photographs, test=photographs),
        classifiers=(ClassifierConfig(name="vanilla", architecture="small_cnn", retrain=Retraining()),),
        spaces=(SpaceConfig(name="natural"),),
        defenses=tuple(NamedDefense(name=name, defense=name) for name in DEFENSES[1:]),
    )
    write_json(root / "experiment.json", experiment.model_dump(mode="json"))
    write_json(root / "evaluate" / "vanilla" / "scores.json", scores())
    pq.write_table(
        pa.Table.from_pylist(gallery_rows(natural_images)), root / "evaluate" / "vanilla" / "gallery.parquet"
    )
    save_artifact(str(root / "spaces" / "natural"), "space", 2, *space_parts())
    write_json(
        root / "spaces" / "natural" / "curves.json",
        {
            "autoencoder": [
                {
                    "epoch": e,
                    "train_loss": 0.5 + 0.2 / e,
                    "validation_loss": 0.51 + 0.2 / e,
                    "psnr": 22 - 6 / e,
                    "noisy_psnr": 17.25,
                }
                for e in range(1, 21)
            ],
            "dictionaries": {n: [_step(i, 1 + k / 5) for i in range(1, 21)] for k, n in enumerate(NAMES)},
            "clusters": {"sizes": SIZES, "candidates": CANDIDATES},
        },
    )
    for number, name in enumerate(("vanilla", "vanilla-for-jpeg", "vanilla-for-stl", "vanilla-for-stl_cluster")):
        epochs = [
            {
                "epoch": e,
                "loss": (2.2 + number / 8) / (1 + e / 4),
                "accuracy": 1 - (0.9 + number / 25) / (1 + e / 6),
                # As `train` writes it; a retrained one as older files have it.
                **(
                    {"validation_loss": 2.3 / (1 + e / 5), "validation_accuracy": e / 40}
                    if e % 2 and not number
                    else {}
                ),
                "learning_rate": 0.05,
                "seconds": 1.2,
                "images_per_second": 1333.0,
            }
            for e in range(1, 31)
        ]
        write_lines(root / "train" / name / "metrics.jsonl", epochs)
        save_artifact(str(root / "train" / name), "model", 1, {"weight": np.zeros(2, np.float32)}, {})
    for number, job in enumerate(("ingest", "fit", "project", "train", "attack", "evaluate")):
        write_json(root / "jobs" / job / "20260101T000000-0.json", _session(job, number))
    for stage, name, rows in (("ingest", "train", 1600), ("ingest", "test", 200), ("project", "stl-train", 1600)):
        manifest = {"stage": stage, "name": name, "rows": rows, "quarantined": 1 if name == "test" else 0, "parts": []}
        manifest |= {"reasons": {"unreadable": 1} if name == "test" else {}, "digest": "ef" * 32}
        write_json(root / stage / name / "MANIFEST.json", manifest)
    return root

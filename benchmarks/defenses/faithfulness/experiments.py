"""A table's experiments, for the package's own jobs: one to fit what a row needs, one to score it.

ROOT/fit-IMAGES-NAME        training images, and the space or the artifact of a row that is made of them
ROOT/PART-IMAGES            test images, attack sets, predictions; rows with as many images share it
ROOT/scores/PART/ROW.json   the scores of a row that is done
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.defenses.faithfulness.parts import LINF, Part
from benchmarks.defenses.faithfulness.rows import ROWS
from stl_ray.config import Experiment
from stl_ray.pipeline.fitted import artifacts_of

SPACE = "natural"

THERMOMETER = "thermometer"

CALIBRATED_ON = 5000
"""Training images that a detector chooses from."""


def fit_experiment(part: Part, name: str, root: Path, data: Path) -> Experiment:
    """What a row is fitted with: the space that it projects onto, or its artifact."""
    row = ROWS[name]
    own = fit_root(part, name, root)
    values = {
        "name": own.name,
        "root": str(own),
        "ingest": {"train": _images(part, "train", data), "size": part.size, "shard_size": 2500},
        "spaces": [{"name": SPACE, **part.space}] if row.on_space else [],
        "defenses": [_defense(name, {})] if row.fitted else [],
    }
    return Experiment.model_validate(values, strict=False)


def fit_root(part: Part, name: str, root: Path) -> Path:
    """Where a row is fitted, in a root of its own so that it waits for no other; rows on the same space share it."""
    return root / f"fit-{part.fit}-{SPACE if ROWS[name].on_space else name}"


def needs_fit(part: Part, name: str) -> bool:
    """Whether there is anything to fit for a row itself."""
    row = ROWS[name]
    return row.fitted or (row.on_space and "load" not in part.space)


def thermometer_experiment(root: Path, data: Path) -> Experiment:
    """The training of the thermometer network, which has no published weights."""
    values = {
        "name": THERMOMETER,
        "root": str(root / THERMOMETER),
        "ingest": {
            "train": {"format": "parquet", "path": f"{data.absolute()}/cifar10/train-*.parquet"},
            "test": {"format": "parquet", "path": f"{data.absolute()}/cifar10/test-*.parquet", "limit": 1000},
            "shard_size": 1000,
        },
        "classifiers": [{"name": THERMOMETER, "architecture": "thermometer_resnet20"}],
        "train": {
            "epochs": 8, "batch_size": 128, "learning_rate": 0.1, "schedule": "cosine", "warmup": 0.05,
            "weight_decay": 5e-4, "crop_padding": 4, "cpus_per_worker": 1,
        },
    }  # fmt: skip
    return Experiment.model_validate(values, strict=False)


def scored_experiment(key: str, part: Part, name: str, images: int, root: Path, data: Path) -> Experiment:
    """The scores of a row, and of the rows that it is made of.

    Args:
        key: the part's name.
        part: the table.
        name: of the row.
        images: of the test split.
        root: of everything.
        data: folder of the shared data.
    """
    names = [*ROWS[name].members, name]
    names = [item for item in names if item != "none"]
    train = {"train": {**_images(part, "train", data), "limit": CALIBRATED_ON}} if ROWS[name].detects else {}
    values: dict[str, Any] = {
        "name": f"{key}-{images}",
        "root": str(root / f"{key}-{images}"),
        "ingest": {
            "test": {**_images(part, "test", data), "limit": images},
            **train,
            "size": part.size,
            "shard_size": 100,
        },
        "classifiers": _classifiers(part, name, root, data),
        "spaces": [_space(part, item, root, data) for item in names if ROWS[item].on_space],
        "defenses": [_defense(item, _loaded(part, item, root, data)) for item in names],
        "attack": {"sets": [dict(item) for item in part.attacks]},
        "evaluate": {
            "gallery": 0,
            "perturbations": 0,
            "draws": 0,
            "tiers": {"budget": {"linf": LINF}, "attacks": [dict(item) for item in part.tiers], "cascade": False},
        },
    }
    return Experiment.model_validate(values, strict=False)


def _images(part: Part, split: str, data: Path) -> dict[str, Any]:
    """The files of a split; imagenet10 has its validation images for a test."""
    files = {"test": "val"}.get(split, split) if part.folder == "imagenet10" else split
    return {"format": "parquet", "path": f"{(data / part.folder).absolute()}/{files}-*.parquet"}


def _classifiers(part: Part, name: str, root: Path, data: Path) -> list[dict[str, Any]]:
    own = dict(part.classifier)
    if "weights" in own:
        own["weights"] = str((data / own["weights"]).absolute())
    if name != THERMOMETER:
        return [own]
    trained = str(root / THERMOMETER / "train" / THERMOMETER)
    return [own, {"name": THERMOMETER, "architecture": "thermometer_resnet20", "weights": trained, "scored": False}]


def _space(part: Part, name: str, root: Path, data: Path) -> dict[str, Any]:
    load = part.space.get("load")
    return {"name": SPACE, "load": str((data / load).absolute() if load else fit_root(part, name, root))}


def _defense(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    row = ROWS[name]
    return {"name": name, "defense": row.defense, "options": {**row.options, **options}}


def _loaded(part: Part, name: str, root: Path, data: Path) -> dict[str, Any]:
    """Where the artifact of a fitted row is."""
    if not ROWS[name].fitted:
        return {}
    (fit,) = artifacts_of(fit_experiment(part, name, root, data))
    return {"load": str(fit_root(part, name, root) / fit.folder)}

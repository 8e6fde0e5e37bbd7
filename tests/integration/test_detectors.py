"""Defenses that refuse images, through the real jobs: calibrated once, before anything is judged."""

import json

import pyarrow as pa
import pytest
import torch

from stl_ray.cli import main
from stl_ray.config import load_experiment
from stl_ray.images import to_tensor
from stl_ray.models import build_classifier, save_classifier
from stl_ray.pipeline.batches import class_names, pixels_of
from stl_ray.runtime import shard_runner
from stl_ray.store import Dataset, Layout
from stl_ray.training import ImagesInMemory, train_classifier

pytestmark = pytest.mark.ray

DEFENSES = [
    {
        "name": "reformer",
        "defense": "magnet",
        "options": {"epochs": 2, "batch_size": 32, "side": 16, "error_drop_rate": 0.2, "jsd_drop_rate": 0.1},
    },
    {"name": "lid", "defense": "lid", "options": {"minibatch": 20, "neighbours": 5}},
]


@pytest.fixture
def config(images_in_root, write_config, tmp_path) -> str:
    """An experiment whose classifiers, vanilla and retrained for the reformer, are there."""
    path = write_config(
        tmp_path,
        spaces=[],
        classifiers=[{"name": "vanilla", "architecture": "small_cnn", "retrain": {"defenses": ["reformer"]}}],
        defenses=DEFENSES,
        attack={
            "sets": [
                {"name": "grey", "attack": "fgsm", "dissimilarity": 0.08},
                {"name": "aware", "attack": "fgsm", "dissimilarity": 0.08, "victim": {"defense": "reformer"}},
            ]
        },
        evaluate={"gallery": 2, "tiers": {"attacks": []}},
    )
    layout, experiment = Layout(str(images_in_root)), load_experiment(path)
    train = Dataset.open(layout.uri(layout.ingested("train")))
    table = pa.concat_tables(train.tables())
    pixels = (to_tensor(pixels_of(table)) * 255).round().byte()
    images = ImagesInMemory(pixels, torch.tensor(table["label"].to_pylist()), table["id"].to_pylist())
    for seed, behind in enumerate([None, "reformer"]):
        classifier = build_classifier("small_cnn", class_names(train), seed=seed)
        list(train_classifier(classifier, images, experiment.train, seed=seed))
        save_classifier(layout.uri(layout.classifier("vanilla", behind)), classifier.eval(), {})
    return path


@pytest.mark.faults
def test_invariant_detectors_are_calibrated_once_and_judge_with_every_classifier(
    config, images_in_root, monkeypatch, capsys
):
    root = images_in_root
    assert main(["fit", config]) == 0
    assert main(["attack", config]) == 0
    # A set that is crafted on the defense has met its detector.
    assert [str(path.parent.relative_to(root)) for path in root.glob("detectors/*/*/*.json")] == [
        "detectors/vanilla/reformer"
    ]
    capsys.readouterr()
    assert main(["evaluate", config, "--dry-run"]) == 0
    planned = capsys.readouterr().out
    assert "detectors/vanilla-for-reformer/reformer" in planned and "detectors/vanilla/lid" in planned
    assert "detectors/vanilla/reformer" not in planned

    def stopped(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shard_runner, "_bring_in", stopped)
        assert main(["evaluate", config]) == 130
    made = {path: path.stat().st_mtime_ns for path in root.glob("detectors/*/*/*")}
    assert len(made) == 2 * 3
    assert main(["evaluate", config]) == 0
    assert {path: path.stat().st_mtime_ns for path in root.glob("detectors/*/*/*")} == made

    scores = json.loads((root / "evaluate/vanilla/scores.json").read_text())
    cells = {(cell["setting"], cell["defense"], cell["attack"]): cell for cell in scores["cells"]}
    assert {defense for (_, defense, _), cell in cells.items() if cell["detection"]} == {"reformer", "lid"}
    for (setting, defense, attack), cell in cells.items():
        rows = pa.concat_tables(
            Dataset.open(str(root / f"evaluate/vanilla/{defense}-on-{attack}")).tables()
        ).to_pylist()
        found = [(row[setting] == row["label"], row[f"{setting}_rejected"]) for row in rows]
        held = [right and not refused if attack == "clean" else right or refused for right, refused in found]
        assert cell["correct"] == sum(held)
        assert [row[f"{setting}_rejected"] for row in rows] == [row[f"{setting}_score"] > 1 for row in rows]
        if cell["detection"]:
            assert cell["detection"]["refused"]["count"] == sum(refused for _, refused in found)
            assert (cell["detection"]["auroc"] is None) == (attack == "clean")
    # Each classifier has a detector of its own.
    rows = pa.concat_tables(Dataset.open(str(root / "evaluate/vanilla/reformer-on-clean")).tables()).to_pylist()
    assert [row["vanilla_score"] for row in rows] != [row["retrained_score"] for row in rows]
    for folder, counts in (("vanilla/reformer", 12), ("vanilla-for-reformer/reformer", 12), ("vanilla/lid", 120)):
        assert json.loads((root / "detectors" / folder / "detector.json").read_text())["meta"]["images"] == counts

    assert main(["report", config]) == 0
    page = (root / "report/report.md").read_text()
    assert "What detectors refused" in page and "wrong when clean and right when attacked" in page
    assert (root / "report/figures/roc.png").is_file()
    assert main(["verify", str(root)]) == 0
    capsys.readouterr()
    assert main(["evaluate", config, "defenses.0.options.jsd_drop_rate=0.3"]) == 1
    assert "jsd_drop_rate" in capsys.readouterr().err

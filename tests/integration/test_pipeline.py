"""The seven jobs at tiny size on a local Ray, and what they leave behind."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stl_ray import QuasiNaturalSpace
from stl_ray.cli import main
from stl_ray.images import to_tensor
from stl_ray.pipeline.batches import pixels_of
from stl_ray.statistics import wilson
from stl_ray.store import Dataset
from tests.recount import require_recounted

pytestmark = pytest.mark.ray

SETS = ("clean", "fgsm-0.08", "bim-0.03")
DEFENSES = ("none", "stl", "stl_cluster")


def _table(folder) -> pa.Table:
    return pa.concat_tables(Dataset.open(str(folder)).tables())


def test_every_dataset_is_whole(tiny, capsys):
    assert main(["verify", str(tiny)]) == 0
    lines = capsys.readouterr().out.splitlines()
    # Ingested splits, thumbnails, latents and samples of the fit, purified splits, attacks, predictions, verdicts, probes,
    # perturbations.
    assert len(lines) == 2 + 3 + 2 * len(DEFENSES[1:]) + 2 + len(DEFENSES) * len(SETS) + len(DEFENSES) + len(
        DEFENSES[1:]
    ) + len(DEFENSES[1:]) * len(SETS[1:])
    assert all(line.endswith("0 quarantined, sound") for line in lines)


def test_invariant_rows_keep_their_order_through_all_jobs(tiny):
    ids = _table(tiny / "ingest" / "test")["id"].to_pylist()
    assert ids == [f"test/{number:05d}" for number in range(40)]
    for folder in ("project/stl_cluster-test", "attack/vanilla/bim-0.03", "evaluate/vanilla/stl-on-bim-0.03"):
        assert _table(tiny / folder)["id"].to_pylist() == ids, folder


def test_scores_are_the_counts_of_the_stored_predictions(tiny):
    scores = json.loads((tiny / "evaluate" / "vanilla" / "scores.json").read_text())
    cells = {(cell["setting"], cell["defense"], cell["attack"]): cell for cell in scores["cells"]}
    assert set(cells) == {(s, d, a) for s in ("vanilla", "retrained") for d in DEFENSES for a in SETS}
    for (setting, defense, attack), cell in cells.items():
        rows = _table(tiny / "evaluate" / "vanilla" / f"{defense}-on-{attack}").to_pylist()
        correct = sum(row[setting] == row["label"] for row in rows)
        assert (cell["correct"], cell["total"]) == (correct, 40)
        assert (cell["accuracy"], cell["low"], cell["high"]) == pytest.approx(wilson(correct, 40))
        assert cell["threat"] == ("T0" if attack == "clean" else "T1a")
    for attack in SETS:
        without = [cells[setting, "none", attack]["correct"] for setting in ("vanilla", "retrained")]
        assert without[0] == without[1]


def test_the_worst_case_is_that_of_the_stored_verdicts(tiny):
    tiers = json.loads((tiny / "evaluate" / "vanilla" / "scores.json").read_text())["tiers"]
    assert [row["defense"] for row in tiers["rows"]] == list(DEFENSES)
    for row in tiers["rows"]:
        stored = _table(tiny / "evaluate" / "vanilla" / f"{row['defense']}-under-attack").to_pylist()
        held = sum(all(v["prediction"] == image["label"] for v in image["verdicts"]) for image in stored)
        assert (row["worst"]["correct"], row["worst"]["total"]) == (held, 8)
        assert [flag["check"] for flag in row["flags"]] == [f"H{n}" for n in range(1, 16) if row["defense"] != "none"]


def test_attacks_are_scored_as_they_are_stored(tiny):
    attacked = _table(tiny / "attack" / "vanilla" / "fgsm-0.08").to_pylist()
    predicted = {
        row["id"]: row["vanilla"] for row in _table(tiny / "evaluate" / "vanilla" / "none-on-fgsm-0.08").to_pylist()
    }
    assert {row["id"]: row["source_pred"] for row in attacked} == predicted
    assert all(row["dissimilarity"] <= 0.08 for row in attacked)
    reached = [row["dissimilarity"] for row in attacked if row["status"] != "budget_unreachable"]
    assert len(reached) > 30
    assert min(reached) >= 0.98 * 0.08


def test_training_images_stay_out_of_their_own_vote(tiny):
    identities = {
        split: json.loads((tiny / "project" / f"stl_cluster-{split}" / "run.json").read_text())["identity"]
        for split in ("train", "test")
    }
    assert identities["train"]["exclude_self"]
    assert not identities["test"]["exclude_self"]
    table = _table(tiny / "ingest" / "train")
    ids, images = table["id"].to_pylist(), to_tensor(pixels_of(table))
    space = QuasiNaturalSpace.load(str(tiny / "spaces" / "natural"))
    stored = _table(tiny / "project" / "stl_cluster-train")["cluster"].to_pylist()
    assert stored == space.route(images, exclude=ids).tolist()


def test_space_and_curves(tiny):
    space = QuasiNaturalSpace.load(str(tiny / "spaces" / "natural"))
    assert len(space.dictionaries) == 2
    assert space.resolution == 32
    assert space.samples.shape[0] == 2 and space.samples.shape[2:] == (3, 32, 32)
    made = space.provenance
    dataset = Dataset.open(str(tiny / "ingest" / "train"))
    assert (made["dataset"], made["images"], made["seed"]) == (dataset.digest, 120, 1)
    assert made["fit"]["dictionary"]["block"] == 6
    curves = json.loads((tiny / "spaces" / "natural" / "curves.json").read_text())
    assert curves["clusters"] == made["clusters"]
    assert sum(made["clusters"]["sizes"]) == 120
    assert [row["clusters"] for row in made["clusters"]["candidates"]] == [2, 3]
    assert len(curves["autoencoder"]) == made["autoencoder"]["epochs"] == 2
    best = min(curves["autoencoder"], key=lambda row: row["validation_loss"])
    assert {key: made["autoencoder"][key] for key in ("validation_loss", "psnr", "noisy_psnr")} == {
        key: best[key] for key in ("validation_loss", "psnr", "noisy_psnr")
    }
    assert set(curves["dictionaries"]) == set(made["dictionaries"]) == {"universal", "cluster_0", "cluster_1"}
    for name, rows in curves["dictionaries"].items():
        row, record = rows[-1], made["dictionaries"][name]
        assert [r["iteration"] for r in rows] == list(range(1, len(rows) + 1))
        figures = ("iteration", "holdout_objective", "sparsity", "psnr", "converged")
        recorded = ("iterations", "objective", "sparsity", "psnr", "converged")
        assert [row[key] for key in figures] == [record[key] for key in recorded]


def test_what_was_made_with_the_space_names_it(tiny):
    space = QuasiNaturalSpace.load(str(tiny / "spaces" / "natural"))
    digests = {"stl_cluster": space.digest, "stl": space.universal().digest}
    for name, digest in digests.items():
        part = next((tiny / "project" / f"{name}-test" / "parts").iterdir())
        made_by = json.loads(pq.read_schema(part).metadata[b"stl_ray"])["defense"]
        assert made_by["space"] == digest
        trained = json.loads((tiny / "train" / f"vanilla-for-{name}" / "model.json").read_text())["meta"]["defense"]
        assert trained == made_by
    vanilla = json.loads((tiny / "train" / "vanilla" / "model.json").read_text())["meta"]
    assert vanilla["defense"] is None


def test_describe(tiny, tmp_path, capsys):
    space = QuasiNaturalSpace.load(str(tiny / "spaces" / "natural"))
    assert main(["describe", str(tiny), "--output", str(tmp_path)]) == 0
    page = capsys.readouterr().out
    assert space.digest in page and space.universal().digest in page
    for phrase in ("K = 16 of S = 8 x 8 pixels", "M = 2, of ", "k = 5 nearest of 120 reference latents", "universal"):
        assert phrase in page
    assert {path.name for path in tmp_path.iterdir()} == {"filters.png", "clusters.png", "candidates.png"}


def test_report_stands_alone(tiny):
    page = (tiny / "report" / "report.html").read_text()
    assert "not independent" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    scores = json.loads((tiny / "evaluate" / "vanilla" / "scores.json").read_text())
    for cell in scores["cells"]:
        assert f"{cell['accuracy']:.3f}".lstrip("0") in page
    assert (tiny / "report" / "report.md").is_file()
    figures = [path.name for path in (tiny / "report" / "figures").iterdir()]
    assert any("filters" in name for name in figures)
    assert any("gallery" in name for name in figures)


def test_agrees_the_report_s_numbers_are_recounted_from_its_predictions(tiny):
    require_recounted(tiny / "report" / "predictions.parquet", tiny / "evaluate" / "vanilla" / "scores.json")


def test_identity_every_defense_has_an_entry_of_its_worst_case(tiny):
    entries = json.loads((tiny / "report" / "robustbench" / "vanilla.json").read_text())
    rows = json.loads((tiny / "evaluate" / "vanilla" / "scores.json").read_text())["tiers"]["rows"]
    assert [entry["defense"] for entry in entries] == [row["defense"] for row in rows]
    for entry, row in zip(entries, rows, strict=True):
        assert entry["external"] == f"{100 * row['worst']['accuracy']:.2f}"
        methods = [attack["name"] for attack in entry["attacks"] if attack["method"]]
        assert methods and set(methods) <= {step["attack"] for step in row["steps"]}


def test_invariant_running_everything_again_changes_nothing(tiny, write_config, tmp_path, capsys):
    def content():
        kept = ("ingest", "project", "attack", "spaces", "train", "evaluate")
        paths = sorted(path for folder in kept for path in (tiny / folder).rglob("*") if path.is_file())
        anew = ("scores.json", "gallery.parquet", "lease.lock")  # a driver writes itself into the last while it works
        return {str(path): path.stat().st_mtime_ns for path in paths if path.name not in anew}

    before = content()
    config = write_config(tmp_path, root=str(tiny))
    assert main(["quickstart", config]) == 0
    changed = {path for path, time in content().items() if before.get(path) != time}
    assert {path.split("/")[-1] for path in changed} <= {"space.json", "space.safetensors", "curves.json"}


def test_refuses_other_settings_in_the_same_root(tiny, write_config, tmp_path, capsys):
    config = write_config(tmp_path, root=str(tiny))
    for job, override, key in (
        ("ingest", "ingest.shard_size=10", "plan_digest"),
        ("fit", "solver.method=admm", "solver"),
        ("project", "spaces.0.clusters=3", "fit.clusters"),
        ("project", "defenses.0.options.accuracy=reference", "defense.accuracy"),
        ("project", "defenses.1.options.lmbda=0.1", "defense.lmbda"),
        ("train", "train.learning_rate=0.1", "recipe.learning_rate"),
        ("train", "classifiers.0.retrain.epochs=1", "recipe.epochs"),
        ("attack", "seed=2", "seed"),
        # What lies on disk was made otherwise than these tables would say.
        ("train", "defenses.0.options.accuracy=reference", "defense.accuracy"),
        ("evaluate", "attack.sets.0.dissimilarity=0.05", "attack.dissimilarity"),
    ):
        assert main([job, config, override]) == 1
        error = capsys.readouterr().err
        assert "RunIdentityError" in error
        assert key in error

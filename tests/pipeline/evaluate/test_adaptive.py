"""The attacks of the tiers and their checks on a small experiment, every shard made here instead of in an actor."""

import hashlib
import json

import pyarrow as pa
import pytest

from stl_ray.errors import ConfigError
from stl_ray.evaluation import fixed_ids, score
from stl_ray.models import build_classifier, save_classifier
from stl_ray.pipeline.attack import job as attack
from stl_ray.pipeline.evaluate import adaptive as tiers
from stl_ray.pipeline.evaluate import job as evaluate
from stl_ray.pipeline.evaluate.adaptive import verdicts
from stl_ray.pipeline.evaluate.subset import plan_subset, rows_of
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.store import Dataset, Layout

DEFENSES = ("none", "jpeg", "stl", "stl_cluster")


def context_of(experiment) -> tiers.Context:
    (context,) = tiers.Context.all_of(experiment, "cpu")
    return context


def rows(experiment, folder) -> list[dict]:
    return [row for table in Dataset.open(Layout(experiment.root).uri(folder)).tables() for row in table.to_pylist()]


def test_identity_what_is_stored_scored_and_flagged(experiment, run_here):
    layout = Layout(experiment.root)
    # Two sets each lack an image that the others have, one of those that are attacked and checked again.
    lost = fixed_ids([f"id-{n}" for n in range(10)], 2)
    run_here(
        attack.plan(experiment),
        experiment,
        **{layout.attacked("vanilla", name): image for name, image in zip(("far", "finer"), lost, strict=True)},
    )
    run_here(evaluate.plan(experiment), experiment)
    run_here(tiers.plan_tiers(experiment), experiment)
    run_here(tiers.plan_checks(experiment), experiment)
    _plans_without_images(experiment)
    _tables(experiment, set(lost))
    _scores(experiment)
    _stored_sets(experiment)
    _flags(experiment)


def _plans_without_images(evaluated) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dataset, "bytes_of", None)  # what reads whole parts
        assert all(plan(evaluated).runs for plan in (evaluate.plan, tiers.plan_tiers, tiers.plan_checks))


def _tables(evaluated, lost: set[str]) -> None:
    """Every row of the tables is of the images that all sets have."""
    uri = Layout(evaluated.root).uri
    predictions = {
        tuple(cell): pa.concat_tables(Dataset.open(uri(run.folder)).tables())
        for (_, *cell), run in evaluate.cells_of(evaluated).items()
    }
    assert len({table.num_rows for table in predictions.values()}) == 2
    scores = score(predictions, classifier="vanilla", architecture="small_cnn", class_names=["a", "b"])
    assert (scores["images"], scores["set_aside"]) == (8, 2)
    kept = sorted({f"id-{n}" for n in range(10)} - lost)
    assert scores["ids_sha256"] == hashlib.sha256("\n".join(kept).encode()).hexdigest()
    assert {cell["total"] for cell in scores["cells"]} == {8}


def _scores(evaluated) -> None:
    layout = Layout(evaluated.root)
    scores = tiers.stored_tier_scores(context_of(evaluated), chance=0.5)
    assert json.loads(json.dumps(scores)) == scores
    assert {row["defense"]: row["gradient"] for row in scores["rows"]} == {
        "none": "exact", "jpeg": "stand_in", "stl": "exact", "stl_cluster": "exact",
    }  # fmt: skip
    worst = scores["rows"][2]["worst"]
    line = tiers.headline(scores)
    assert f"stl {worst['accuracy']:.3f} [{worst['low']:.3f}, {worst['high']:.3f}] (void: " in line and "H14" in line
    ids = {row["id"] for row in rows(evaluated, layout.verdicts("vanilla", "stl"))}
    assert ids == set(fixed_ids([f"id-{n}" for n in range(10)], 7))
    order = {
        "none": ["clean", "near", "exact", "square"],
        "jpeg": [
            "clean",
            "near",
            "grey",
            "transfer",
            "bpda",
            "exact",
            "square",
            "sanity checks",
        ],  # "exact" by a stand-in
        "stl": ["clean", "near", "grey", "transfer", "bpda", "exact", "square", "sanity checks"],
        "stl_cluster": ["clean", "near", "grey", "transfer", "bpda", "exact", "square", "sanity checks"],
    }
    for row in scores["rows"]:
        steps = row["steps"]
        seen = [step["attack"] for step in steps]
        assert seen == order[row["defense"]]
        correct = [step["correct"] for step in steps]
        assert correct == sorted(correct, reverse=True)
        assert row["worst"]["correct"] == correct[-1]
        assert (row["images"], row["complete"]) == (7, True)
        # As the report shows them, tier after tier.
        tiers_in_order = [step["tier"] for step in steps]
        assert tiers_in_order == sorted(tiers_in_order, key=list(scores["knowledge"]).index)
        checks = [flag["check"] for flag in row["flags"]]
        assert checks == ([] if row["defense"] == "none" else [f"H{number}" for number in range(1, 16)])


def _stored_sets(evaluated) -> None:
    """The set within the budget is counted, that beyond it is not."""
    layout = Layout(evaluated.root)
    for name in DEFENSES:
        clean = {row["id"]: row["vanilla"] for row in rows(evaluated, layout.predictions("vanilla", name, "clean"))}
        near = {row["id"]: row["vanilla"] for row in rows(evaluated, layout.predictions("vanilla", name, "near"))}
        for row in rows(evaluated, layout.verdicts("vanilla", name)):
            verdicts = {verdict["attack"]: verdict for verdict in row["verdicts"]}
            assert verdicts["clean"]["prediction"] == clean[row["id"]]
            assert verdicts["near"]["prediction"] == near[row["id"]]
            assert verdicts["near"]["tier"] == "T1a"
            assert not verdicts.keys() & {"far", "finer"}  # beyond the budget; finer than 8 bits


def _flags(evaluated) -> None:
    scores = tiers.stored_tier_scores(context_of(evaluated), chance=0.5)
    flags = {row["defense"]: {flag["check"]: flag for flag in row["flags"]} for row in scores["rows"]}
    for name in DEFENSES[1:]:
        own = flags[name]
        assert own["H1"]["state"] == "passed", own["H1"]
        assert own["H10"]["state"] == "passed", own["H10"]
        assert own["H11"]["state"] == "passed", own["H11"]
        assert own["H15"]["state"] == "passed", own["H15"]
        assert own["H14"]["state"] == "raised"  # seven images
    assert "finite differences" in flags["stl"]["H8"]["finding"]
    assert "finite differences" not in flags["jpeg"]["H8"]["finding"]
    assert "another cluster" in flags["stl_cluster"]["H12"]["finding"]
    assert "another cluster" not in flags["stl"]["H12"]["finding"]


def test_certificate_the_headline_says_what_is_incomplete_and_what_is_void():
    def row(defense: str, complete: bool, *raised: str) -> dict:
        flags = [{"check": check, "state": "raised"} for check in raised]
        worst = {"accuracy": 0.25, "low": 0.125, "high": 0.5}
        return {"defense": defense, "worst": worst, "complete": complete, "flags": flags}

    line = tiers.headline({"rows": [row("none", True), row("jpeg", False), row("stl", False, "H4", "H14")]})
    assert line == (
        "worst case none 0.250 [0.125, 0.500], jpeg at most 0.250 [0.125, 0.500] (incomplete: attacks out of time), "
        "stl at most 0.250 [0.125, 0.500] (incomplete: attacks out of time; void: H4, H14 raised)"
    )


def test_invariant_a_shard_does_not_depend_on_the_others(experiment, monkeypatch, run_here):
    run_here(attack.plan(experiment), experiment)
    run_here(evaluate.plan(experiment), experiment)
    whole = tiers.plan_tiers(experiment)
    monkeypatch.setitem(verdicts.SHARD, "cpu", 3)
    parts = tiers.plan_tiers(experiment)
    folder = Layout(experiment.root).verdicts("vanilla", "stl_cluster")

    def made(job) -> list[dict]:
        work = job.make_task()
        (run,) = (run for run in job.runs if run.folder == folder)
        return [row for shard in run.plan for row in work(folder, shard).table.to_pylist()]

    found = made(parts)
    assert [len(run.plan) for run in parts.runs] == [3] * 4
    for ours, theirs in zip(found, made(whole), strict=True):
        assert ours["id"] == theirs["id"]
        assert [v["prediction"] for v in ours["verdicts"]] == [v["prediction"] for v in theirs["verdicts"]]


def test_identity_chosen_rows_are_read_from_their_parts(experiment):
    dataset = dataset_of(experiment.root, "ingest/test")
    shards = plan_subset(dataset, 7, 3)
    assert [shard.rows for shard in shards] == [3, 3, 1]
    wanted = fixed_ids([f"id-{n}" for n in range(10)], 7)
    found = [row for shard in shards for row in rows_of(dataset, shard.source)["id"].to_pylist()]
    assert sorted(found) == sorted(wanted)
    assert found == sorted(found, key=lambda name: int(name.removeprefix("id-")))
    assert len({shard.digest for shard in shards}) == 3


def test_refuses_a_classifier_of_other_classes_before_any_shard(experiment):
    assert evaluate.look(experiment) == {}
    layout = Layout(experiment.root)
    other = build_classifier("small_cnn", ["a", "x"], seed=0).eval()
    save_classifier(layout.uri(layout.classifier("vanilla")), other, {})
    with pytest.raises(ConfigError, match=r"vanilla: .*b"):
        evaluate.look(experiment)


def test_identity_without_attacks_there_is_nothing_to_do(experiment):
    quiet = experiment.model_copy(
        update={
            "evaluate": experiment.evaluate.model_copy(
                update={"tiers": experiment.evaluate.tiers.model_copy(update={"attacks": ()})}
            )
        }
    )
    assert (
        tiers.plan_tiers(quiet) is tiers.plan_checks(quiet) is tiers.stored_tier_scores(context_of(quiet), 0.5) is None
    )

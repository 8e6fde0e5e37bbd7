"""Several classifiers in one experiment: each has a block of its own; every shard made here instead of in an actor."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from stl_ray.cli import main
from stl_ray.config import ReportConfig
from stl_ray.errors import ConfigError, IncompleteRunError, RunIdentityError
from stl_ray.images import to_tensor
from stl_ray.models import build_classifier, predict, save_classifier
from stl_ray.pipeline.attack import job as attack
from stl_ray.pipeline.batches import pixels_of
from stl_ray.pipeline.defended import load_blocks
from stl_ray.pipeline.evaluate import job as evaluate
from stl_ray.pipeline.evaluate.adaptive import Context, plan_checks, plan_tiers
from stl_ray.pipeline.evaluate.perturbations import plan_perturbations
from stl_ray.report import build_report
from stl_ray.runtime.shard_runner import drafts_of
from stl_ray.store import Dataset, Layout, Storage
from stl_ray.store.shards import table_from_bytes

SETS = [
    {"name": "alone", "attack": "fgsm", "dissimilarity": 0.03},
    {"name": "retrained", "attack": "fgsm", "dissimilarity": 0.03, "victim": {"retrained_for": "jpeg"}},
    {"name": "through", "attack": "fgsm", "dissimilarity": 0.03, "victim": {"defense": "jpeg", "gradient": "bpda"}},
    {"name": "transfer", "attack": "fgsm", "dissimilarity": 0.03, "victim": {"classifier": "surrogate"}},
    {"name": "firsts", "attack": "fgsm", "dissimilarity": 0.03,
     "victim": {"classifier": "first", "defense": "jpeg", "gradient": "bpda"}},
]  # fmt: skip
TWO = [
    {"name": "first", "architecture": "small_cnn", "retrain": {}},
    {"name": "second", "architecture": "small_cnn", "retrain": {"defenses": ["jpeg"]}},
    {"name": "surrogate", "architecture": "small_cnn", "scored": False},
]
TIERS = {
    "budget": {"dissimilarity": 0.03},
    "images": 4,
    "attacks": [{"name": "grey", "tier": "T1b", "attack": "fgsm"}, {"name": "bpda", "tier": "T3", "attack": "fgsm"}],
}


@pytest.fixture
def made(experiment_of, finished_run, image_tables, crops):
    """Makes an experiment of eight test images whose classifiers are already there; sections, and names of the classes."""

    def make(classifiers=TWO, sets=SETS, names=("a", "b"), **sections):
        own = experiment_of(
            classifiers=classifiers,
            defenses=[
                {"name": "jpeg", "defense": "jpeg"},
                {"name": "mild", "defense": "jpeg", "options": {"quality": 95}},
            ],
            attack={"sets": sets},
            **{"evaluate": {"gallery": 3, "tiers": TIERS}, **sections},
        )
        layout = Layout(own.root)
        if not Storage.open(own.root).exists("ingest"):
            tables = image_tables(crops(8), 5, 3)
            schema = tables[0].schema.with_metadata(_named(tables[0].schema, names))
            finished_run(own, "ingest/test", *(table.replace_schema_metadata(schema.metadata) for table in tables))
        for number, item in enumerate(own.classifiers):
            behind = [None, *(defense.name for defense in own.defenses if item.retrained_for(defense.name))]
            for seed, defense in enumerate(behind if item.trained else behind[1:]):
                folder = layout.uri(layout.classifier(item.name, defense))
                if not Storage.open(folder).exists("model.json"):
                    classes = list(item.classes or names)
                    network = build_classifier(item.architecture, classes, seed=10 * number + seed).eval()
                    save_classifier(folder, network, {})
        Storage.open(own.root).write(Layout.experiment, own.model_dump_json().encode())
        return own

    return make


def _named(schema, names):
    from stl_ray.images import image_schema

    assert image_schema("image", ["a", "b"]).metadata == schema.metadata
    return image_schema("image", names).metadata


def predicted(experiment, run_here) -> None:
    """Attack, and every prediction."""
    for plan in (attack.plan, evaluate.plan):
        run_here(plan(experiment), experiment)


def refused(experiment) -> set[str]:
    """The folders that `evaluate` wants removed, before it makes any prediction; it needs no Ray to say so."""
    with pytest.raises(RunIdentityError) as error:
        evaluate.run(experiment)
    return set(re.findall(r"evaluate/first/[^:]*(?=: made with other)", str(error.value)))


def all_jobs(experiment, run_here) -> None:
    """Attack and evaluate, as the jobs do."""
    predicted(experiment, run_here)
    for plan in (plan_perturbations, plan_tiers, plan_checks):
        run_here(plan(experiment), experiment)
    cells = evaluate.cells_of(experiment)
    for context in Context.all_of(experiment, "cpu"):
        evaluate._write_block(context, cells)


def digest_of(experiment, classifier: str, defense: str | None) -> str:
    folder = Storage.open(experiment.root).below(Layout(experiment.root).classifier(classifier, defense))
    return str(folder.read_json("model.json")["digest"])


def rows(experiment, folder: str) -> list[dict[str, Any]]:
    tables = Dataset.open(Layout(experiment.root).uri(folder)).tables()
    return [row for table in tables for row in table.to_pylist()]


def scores_of(experiment, classifier: str) -> dict[str, Any]:
    return json.loads(Storage.open(experiment.root).read(Layout(experiment.root).scores(classifier)))


def test_identity_a_block_for_each_scored_classifier_and_a_set_once_for_each_victim(made, run_here, tmp_path):
    own = made()
    assert [run.folder for run in attack.plan(own).runs] == [
        "attack/first/alone",
        "attack/first/retrained",
        "attack/first/through",
        "attack/surrogate/transfer",
        "attack/first/firsts",
        "attack/second/alone",
        "attack/second/retrained",
        "attack/second/through",
    ]
    all_jobs(own, run_here)
    assert sorted(Storage.open(own.root).names("evaluate")) == ["first", "second"]
    assert rows(own, "attack/first/alone") != rows(own, "attack/second/alone")
    _scores(own)
    _report(own, str(tmp_path / "report"))
    _compared(own, str(tmp_path / "compared.csv"))


def _scores(own) -> None:
    for name, retrained in (("first", {"none", "jpeg", "mild"}), ("second", {"none", "jpeg"})):
        scores = scores_of(own, name)
        assert (scores["classifier"], scores["architecture"]) == (name, "small_cnn")
        assert {cell["defense"] for cell in scores["cells"] if cell["setting"] == "retrained"} == retrained
        cells = {(c["setting"], c["defense"], c["attack"]): c for c in scores["cells"]}
        for (setting, defense, shown), cell in cells.items():
            stored = rows(own, f"evaluate/{name}/{defense}-on-{shown}")
            assert cell["correct"] == sum(row[setting] == row["label"] for row in stored)
        tiers = {
            shown: [cells["vanilla", defense, shown]["threat"] for defense in ("none", "jpeg", "mild")]
            for shown in ("clean", *(item["name"] for item in SETS))
        }
        assert tiers == {
            "clean": ["T0"] * 3,
            "alone": ["T1a"] * 3,
            "retrained": ["T1a", "T1a", "T1a"],
            "through": ["T2", "T3", "T2"],
            "transfer": ["T1a"] * 3,
            # Of another classifier it is a transfer, whatever stood in front of it.
            "firsts": ["T2", "T3", "T2"] if name == "first" else ["T2"] * 3,
        }
        assert [row["defense"] for row in scores["tiers"]["rows"]] == ["none", "jpeg", "mild"]


def _report(own, out: str) -> None:
    paths = build_report(own.root, out, ReportConfig())
    page = Path(paths.html).read_text()
    for name in ("first", "second"):
        assert f'id="vanilla-{name}"' in page and f'id="tiers-{name}"' in page and f'id="gallery-{name}"' in page
    assert 'id="vanilla-surrogate"' not in page and "surrogate (small_cnn), 30 epochs" in page
    assert len(set(paths.figures)) == len(paths.figures)


def _compared(own, file: str) -> None:
    """Two rows of one experiment, compared, are what the scores say of them."""
    assert main(["compare", own.root, own.root, "--defenses", "none", "jpeg", "--output", file]) == 0
    lines = list(csv.DictReader(Path(file).read_text().splitlines()))
    assert len(lines) == 2 * 2 * 6
    for name in ("first", "second"):
        for cell in (cell for cell in scores_of(own, name)["cells"] if cell["defense"] == "jpeg"):
            key = (name, cell["setting"], cell["attack"])
            (line,) = (one for one in lines if (one["classifier"], one["setting"], one["attack"]) == key)
            found = {column: float(line[column]) for column in ("difference", "low", "high", "p")}
            assert found.items() <= cell["versus_none"].items()


def test_identity_two_experiments_compared_are_their_stored_predictions(made, run_here, tmp_path, capsys):
    """Others of everything in the second: the weights of `second`, an attack's budget, and the seventh image set aside."""
    one = made(sets=SETS[:2])
    weaker = {**SETS[0], "dissimilarity": 0.01}
    other = made(TWO[1:], [weaker, SETS[1]], root=str(tmp_path / "other"), seed=1)
    for own in (one, other):
        run_here(attack.plan(own), own)
    run_here(evaluate.plan(one), one)
    run_here(evaluate.plan(other), other, **{"evaluate/second/jpeg-on-clean": "id-6"})
    assert main(["compare", one.root, other.root, "--output", str(tmp_path / "out.csv")]) == 0
    said = capsys.readouterr().out
    assert re.search(r"attack.sets.alone.dissimilarity +0.03 +0.01\n", said) and re.search(r"\n +seed +0 +1\n", said)
    assert "classifiers.first" in said and "Left out: 0 to 1 images of A, of whose id and label" in said
    # A seed is a setting.
    assert "not the same in A and B: alone (other settings) and retrained (other settings)." in " ".join(said.split())
    lines = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    settings = [("vanilla", ["none", "jpeg", "mild"]), ("retrained", ["jpeg"])]
    assert [(line["classifier"], line["setting"], line["defense_a"], line["attack"]) for line in lines] == [
        ("second", setting, defense, name)
        for setting, defenses in settings
        for defense in defenses
        for name in ("clean", "alone", "retrained")
    ]
    for line in lines:
        folder = f"evaluate/second/{line['defense_a']}-on-{line['attack']}"
        found = [{row["id"]: row[line["setting"]] == row["label"] for row in rows(own, folder)} for own in (one, other)]
        shared = found[0].keys() & found[1].keys()
        assert len(shared) == int(line["images"]) == 8 - (folder == "evaluate/second/jpeg-on-clean")
        for letter, right in zip("ab", found, strict=True):
            assert float(line[f"accuracy_{letter}"]) == sum(right[name] for name in shared) / len(shared)


def test_certificate_every_block_is_judged_by_its_own_networks(made, run_here):
    own = made()
    predicted(own, run_here)
    table = next(iter(Dataset.open(Layout(own.root).uri("ingest/test")).tables()))
    images = to_tensor(pixels_of(table))
    for number, name in enumerate(("first", "second")):
        network = build_classifier("small_cnn", ["a", "b"], seed=10 * number).eval()
        expected = predict(network, images).tolist()
        found = [row["vanilla"] for row in rows(own, f"evaluate/{name}/none-on-clean")]
        assert found[: len(expected)] == expected
        # The block's own labels, and its own victim.
        assert [row["source_pred"] for row in rows(own, f"attack/{name}/alone")] == [
            row["vanilla"] for row in rows(own, f"evaluate/{name}/none-on-alone")
        ]


def test_certificate_behind_a_defense_stands_the_network_that_was_retrained_for_it_and_no_other(made, crops):
    own, images = made(seed=5), to_tensor(crops(3))
    blocks = load_blocks(own, ["a", "b"], "cpu")
    assert list(blocks) == ["first", "second"]
    for number, (name, kept) in enumerate({"first": ["jpeg", "mild"], "second": ["jpeg"]}.items()):
        block = blocks[name]
        assert list(block.defended) == ["none", "jpeg", "mild"]
        for defense, deployed in block.defended.items():
            behind = defense if defense in kept else None
            seeds = [10 * number + [None, *kept].index(setting) for setting in (None, behind)]
            vanilla, retrained = (build_classifier("small_cnn", ["a", "b"], seed=seed).eval() for seed in seeds)
            models = block.models(defense)
            assert torch.equal(models["vanilla"].classifier.logits(images), vanilla.logits(images))
            assert torch.equal(models["retrained"].classifier.logits(images), retrained.logits(images))
            assert torch.equal(deployed.classifier.logits(images), retrained.logits(images))
            assert (deployed.classifier is block.vanilla.classifier) == (behind is None)  # in memory once
            assert block.retrained(defense) == (behind is not None)
            expected = {
                "defense": deployed.defense.identity(),
                "vanilla": digest_of(own, name, None),
                "retrained": digest_of(own, name, behind),
            }
            assert block.made_of(defense) == expected and deployed.seed == models["vanilla"].seed == 5
            assert deployed.identity == {"defense": expected["defense"], "classifier": expected["retrained"]}


def test_refuses_a_classifier_that_was_retrained_for_the_defense_of_other_settings(made):
    own = made(TWO[1:2])
    network = build_classifier("small_cnn", ["a", "b"], seed=1)
    folder = Layout(own.root).classifier("second", "jpeg")
    (jpeg, _) = load_blocks(own, ["a", "b"], "cpu")["second"].defended["jpeg"].identity.values()
    save_classifier(Layout(own.root).uri(folder), network, {"defense": jpeg})
    load_blocks(own, ["a", "b"], "cpu")
    save_classifier(Layout(own.root).uri(folder), network, {"defense": {**jpeg, "quality": 1}})
    with pytest.raises(RunIdentityError, match=f"{folder}: .*quality"):
        load_blocks(own, ["a", "b"], "cpu")


def test_invariant_another_classifier_leaves_the_other_blocks_runs_as_they_are(made, run_here):
    """One more, one less, or one by another name."""
    own = made()
    predicted(own, run_here)
    jobs = (attack.plan, evaluate.plan, plan_tiers, plan_checks)

    def identities(experiment) -> dict[str, Any]:
        return {run.folder: run.identity for plan in jobs for run in plan(experiment).runs}

    before = identities(own)
    renamed = [{**item, "name": "other"} if item["name"] == "second" else item for item in TWO]
    more = [*TWO, {"name": "third", "architecture": "small_cnn", "scored": False}]
    for classifiers in ([item for item in TWO if item["name"] != "second"], more):
        found = identities(made(classifiers))
        of_first = {folder for folder in found if "/first/" in folder or "/surrogate/" in folder}
        assert of_first and {folder: found[folder] for folder in of_first} == {f: before[f] for f in of_first}
    with pytest.raises(IncompleteRunError, match="attack/other"):  # crafted anew; of the first nothing is
        evaluate.plan(made(renamed))
    assert {run.folder: run.identity for run in attack.plan(made(renamed)).runs if "first" in run.folder} == {
        folder: identity for folder, identity in before.items() if folder.startswith("attack/first")
    }


def test_refuses_what_was_made_without_another_attack_before_any_prediction(made, run_here):
    """All is named at once, and what the attack cannot change is kept."""
    one, further = [{"name": "first", "architecture": "small_cnn"}], {**SETS[0], "name": "further"}
    own = made(one, SETS[:1])
    all_jobs(own, run_here)
    attacked = {f"evaluate/first/{name}-under-attack" for name in ("none", "jpeg", "mild")}
    checked = {f"evaluate/first/{name}-under-checks" for name in ("jpeg", "mild")}
    # A set within the tiers' budget is in the worst case; one beyond it is measured by the checks alone.
    for item, expected in (
        (further, attacked | checked),
        ({**further, "name": "beyond", "dissimilarity": 0.3}, checked),
    ):
        more = made(one, [SETS[0], item])
        run_here(attack.plan(more), more)
        assert refused(more) == expected
    assert not any("-on-further" in name for name in Storage.open(own.root).names("evaluate/first"))
    # Only a defense meets a grey-box attack, and all rows one by queries; the checks have attacks of their own.
    for tier, expected in (("T1b", attacked - {"evaluate/first/none-under-attack"}), ("T5", attacked)):
        attacks = [*TIERS["attacks"], {"name": "further", "tier": tier, "attack": "square", "options": {"queries": 2}}]
        assert refused(made(one, SETS[:1], evaluate={"tiers": {**TIERS, "attacks": attacks}})) == expected
    drafts = drafts_of([plan(own) for plan in (evaluate.plan, plan_tiers, plan_checks)], own)
    assert len(drafts) == 3 * 2 + 3 + 2


FIVE = ("z", "b", "y", "a", "x")


def test_identity_a_classifier_of_more_classes_is_judged_among_all_of_them(made, run_here):
    """The images' classes are found by name; attack, tables, tiers, checks and gallery judge by the same classes."""
    own = made([{"name": "five", "architecture": "small_cnn", "classes": FIVE, "retrain": {}}], SETS[:3])
    all_jobs(own, run_here)
    clean = rows(own, "ingest/test")
    place = {0: FIVE.index("a"), 1: FIVE.index("b")}
    expected = {row["id"]: place[row["label"]] for row in clean}
    assert set(expected.values()) == {1, 3}
    for folder in ("none-on-clean", "jpeg-on-alone", "mild-on-through", "jpeg-under-attack"):
        assert {row["id"]: row["label"] for row in rows(own, f"evaluate/five/{folder}")}.items() <= expected.items()
    said = [row["vanilla"] for name in ("clean", "alone") for row in rows(own, f"evaluate/five/none-on-{name}")]
    network = build_classifier("small_cnn", list(FIVE), seed=0).eval()
    images = [
        image for table in Dataset.open(Layout(own.root).uri("ingest/test")).tables() for image in pixels_of(table)
    ]
    assert said[: len(images)] == predict(network, to_tensor(images)).tolist()
    # The attack is against the mapped class: an image is wrong already exactly where the network does not say it.
    statuses = {row["id"]: row["status"] for row in rows(own, "attack/five/alone")}
    for identifier, answer in zip(expected, said, strict=False):
        assert (statuses[identifier] == "already_wrong") == (answer != expected[identifier])
    scores = scores_of(own, "five")
    assert (scores["class_names"], scores["chance"]) == (list(FIVE), 0.2)
    right = sum(answer == label for answer, label in zip(said, expected.values(), strict=False))
    cells = {(c["setting"], c["defense"], c["attack"]): c["correct"] for c in scores["cells"]}
    assert cells["vanilla", "none", "clean"] == right
    # Verdicts of the tiers, answers to the probes, and the gallery's labels are in the same classes.
    for row in rows(own, "evaluate/five/jpeg-under-attack"):
        verdicts = {verdict["attack"]: verdict["prediction"] for verdict in row["verdicts"]}
        table = {r["id"]: r["retrained"] for r in rows(own, "evaluate/five/jpeg-on-clean")}
        assert verdicts["clean"] == table[row["id"]]
    layout = Layout(own.root)
    shown = table_from_bytes(Storage.open(own.root).read(layout.gallery("five")), item="gallery").to_pylist()
    assert shown and all(row["label"] == expected[row["id"]] for row in shown)


def test_certificate_a_network_that_is_right_is_right_whatever_the_order_of_its_classes(made, run_here):
    """Two heads with the same answers, one with the dataset's classes and one with these among five."""
    own = made(
        [
            {"name": "two", "architecture": "small_cnn"},
            {"name": "five", "architecture": "small_cnn", "classes": FIVE},
        ],
        SETS[:1],
    )
    layout = Layout(own.root)
    two = build_classifier("small_cnn", ["a", "b"], seed=0).eval()
    five = build_classifier("small_cnn", list(FIVE), seed=0).eval()
    state = dict(two.backbone.state_dict())
    for name, tensor in five.backbone.state_dict().items():
        if tensor.shape != state[name].shape:  # the head: a and b as they are, all others never
            wide = torch.full_like(tensor, -30.0 if tensor.dim() == 1 else 0.0)
            wide[[FIVE.index("a"), FIVE.index("b")]] = state[name]
            state[name] = wide
    five.backbone.load_state_dict(state)
    save_classifier(layout.uri(layout.classifier("five")), five, {})
    all_jobs(own, run_here)
    one, other = (
        {(c["defense"], c["attack"]): c["correct"] for c in scores_of(own, name)["cells"]} for name in ("two", "five")
    )
    assert one == other and sum(one.values()) > 0
    worst = [[row["worst"]["correct"] for row in scores_of(own, name)["tiers"]["rows"]] for name in ("two", "five")]
    assert worst[0] == worst[1]


@pytest.mark.parametrize("job", [attack, evaluate])
def test_refuses_classes_that_do_not_map_before_any_shard(made, job):
    own = made([{"name": "five", "architecture": "small_cnn", "classes": ["z", "y", "b"]}], SETS[:1])
    with pytest.raises(
        ConfigError, match=r"^five: the classifier does not know all classes of the data set; .* got a$"
    ):
        job.plan(own)
    assert not any(Storage.open(own.root).exists(folder) for folder in ("attack", "evaluate"))

"""Defenses that change the network instead of the image, through every job; every shard made here instead of in an actor."""

import pytest

from stl_ray.defenses import Defended, deployed_seeds
from stl_ray.errors import ConfigError, IncompleteRunError
from stl_ray.images import encode_png, quantize, to_uint8
from stl_ray.models import build_classifier, predict, save_classifier
from stl_ray.pipeline.attack import job as attack
from stl_ray.pipeline.defended import load_blocks
from stl_ray.pipeline.evaluate import adaptive
from stl_ray.pipeline.evaluate import job as evaluate
from stl_ray.pipeline.preflight import preflight
from stl_ray.store import Dataset, Layout

CLASSIFIERS = [
    {"name": "vanilla", "architecture": "small_cnn"},
    {"name": "coded", "architecture": "thermometer_resnet20", "scored": False},
]
ROBUST = {"name": "te", "defense": "robust_classifier", "options": {"classifier": "coded"}}
SAP = {"name": "sap", "defense": "sap", "options": {"passes": 2}}
ATHALYE = {"name": "sap-1", "defense": "sap", "options": {"where": "convolution", "draws": 2.0, "passes": 1}}


@pytest.fixture
def images(natural_images):
    return quantize(natural_images[:10, :, 8:24, 8:24])


@pytest.fixture
def made(experiment_of, finished_run, image_tables, images):
    """Makes an experiment with these defenses and the classifiers that are there."""

    def make(*sizes: int, have=("vanilla", "coded"), coded=("a", "b"), **sections):
        attacks = [{"name": "exact", "tier": "T4", "attack": "pgd", "options": {"steps": 1}}]
        values = {
            "classifiers": CLASSIFIERS,
            "defenses": [ROBUST, SAP, ATHALYE],
            "attack": {
                "sets": [
                    {"name": "plain", "attack": "noise", "dissimilarity": 0.03},
                    {"name": "own", "attack": "fgsm", "dissimilarity": 0.03, "victim": {"defense": "sap"}},
                ]
            },
            "evaluate": {"tiers": {"images": 3, "samples": 2, "budget": {"dissimilarity": 0.05}, "attacks": attacks}},
            **sections,
        }
        own = experiment_of(**values)
        layout = Layout(own.root)
        finished_run(own, layout.ingested("test"), *image_tables([encode_png(i) for i in to_uint8(images)], *sizes))
        for seed, (name, architecture, classes) in enumerate(
            [("vanilla", "small_cnn", ("a", "b")), ("coded", "thermometer_resnet20", coded)]
        ):
            if name in have:
                network = build_classifier(architecture, classes, seed=3 + seed).eval()
                save_classifier(layout.uri(layout.classifier(name)), network, {})
        return own

    return make


def rows(experiment, folder: str) -> dict[str, dict]:
    tables = Dataset.open(Layout(experiment.root).uri(folder)).tables()
    # Without NaN, which is not itself: the PSNR of several views.
    return {row["id"]: {k: v for k, v in row.items() if v == v} for table in tables for row in table.to_pylist()}


def test_invariant_changed_networks_run_through_every_job_whatever_the_shards(made, images, run_here, tmp_path):
    found = []
    for number, sizes in enumerate([(6, 4), (1, 9)]):
        own = made(*sizes, root=str(tmp_path / str(number)))
        run_here(attack.plan(own), own)
        run_here(evaluate.plan(own), own)
        run_here(adaptive.plan_tiers(own), own)
        layout = Layout(own.root)
        folders = [layout.predictions("vanilla", d, on) for d in ("te", "sap", "sap-1") for on in ("clean", "own")]
        folders += [layout.verdicts("vanilla", d) for d in ("te", "sap", "sap-1")]
        found.append({folder: rows(own, folder) for folder in folders})
    assert found[0] == found[1]
    (block,) = load_blocks(own, ["a", "b"], "cpu").values()
    coded = block.defended["te"].defense.classifier
    clean = found[0][Layout(own.root).predictions("vanilla", "te", "clean")]
    assert [row["vanilla"] for row in clean.values()] == predict(coded, images).tolist()
    assert [row["retrained"] for row in clean.values()] == predict(coded, images).tolist()
    drawn = Defended(block.vanilla.classifier, block.defended["sap-1"].defense, seed=own.seed)
    clean = found[0][Layout(own.root).predictions("vanilla", "sap-1", "clean")]
    network = drawn.defense.network(block.vanilla.classifier, deployed_seeds(own.seed, list(clean)))
    assert [row["vanilla"] for row in clean.values()] == network.logits(images).argmax(1).tolist()
    run_here(adaptive.plan_checks(own), own)


def test_refuses_a_classifier_that_is_not_trained_yet(made):
    own = made(6, 4, have=("vanilla",))
    with pytest.raises(IncompleteRunError, match=r"train/coded: .* run `stl-ray train` first"):
        load_blocks(own, ["a", "b"], "cpu")


def test_refuses_a_classifier_of_other_classes(made):
    own = made(6, 4, coded=("b", "a"))
    with pytest.raises(ConfigError, match=r"other classes; expected 2 \(a, b\); got 2 \(b, a\)"):
        load_blocks(own, ["a", "b"], "cpu")


def test_refuses_a_classifier_that_the_experiment_does_not_have(experiment_of):
    wrong = {**ROBUST, "options": {"classifier": "codet"}}
    with pytest.raises(ConfigError, match=r"te\.classifier: no classifier of this experiment; expected 'coded'\?"):
        preflight(experiment_of(classifiers=CLASSIFIERS, defenses=[wrong]), "evaluate")


def test_what_is_trained_for_a_row_needs_training_images(experiment_of):
    photographs = {"test": {"format": "photographs"}}
    given = {"name": "given", "architecture": "small_cnn", "weights": "given.safetensors"}
    sets = [{"name": "set", "attack": "fgsm", "dissimilarity": 0.1, "victim": {"classifier": "given"}}]
    own = experiment_of(
        ingest=photographs, classifiers=[given, CLASSIFIERS[1]], defenses=[ROBUST], attack={"sets": sets}
    )
    with pytest.raises(ConfigError, match="no training images for the classifier coded;"):
        preflight(own, "evaluate")
    preflight(own, "project", "attack")
    behind = [{**sets[0], "victim": {"classifier": "given", "defense": "te"}}]
    other = own.model_copy(update={"attack": experiment_of(attack={"sets": behind}).attack})
    with pytest.raises(ConfigError, match="no training images for the classifier coded;"):
        preflight(other, "attack")


def test_refuses_to_retrain_for_a_changed_network(experiment_of):
    vanilla = {**CLASSIFIERS[0], "retrain": {"defenses": ["sap"]}}
    with pytest.raises(ConfigError, match="cannot be retrained for sap"):
        preflight(experiment_of(classifiers=[vanilla, CLASSIFIERS[1]], defenses=[ROBUST, SAP]), "train")

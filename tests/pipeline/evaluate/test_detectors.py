"""Detectors in every job, each shard made here instead of in an actor; the calibrations as the notebook makes them."""

import pyarrow as pa
import pytest
import torch

import stl_ray
from stl_ray.defenses.magnet_autoencoder import Autoencoder, MagnetAutoencoder
from stl_ray.errors import IncompleteRunError, InputError
from stl_ray.evaluation.cost_model import DETECTED, DIFFERENTIATED
from stl_ray.images import quantize, to_uint8
from stl_ray.models import build_classifier, load, save_classifier, seeded
from stl_ray.pipeline.attack import job as attack
from stl_ray.pipeline.attack.target import victims_of
from stl_ray.pipeline.batches import exact_pixels_of, pixels_of
from stl_ray.pipeline.defended import load_blocks
from stl_ray.pipeline.detectors import KIND, VERSION, calibrate, images_for
from stl_ray.pipeline.estimate.adaptive import _seconds, counted
from stl_ray.pipeline.evaluate import adaptive
from stl_ray.pipeline.evaluate import job as evaluate
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.store import Layout, save_artifact

AWARE = {"name": "aware", "attack": "fgsm", "dissimilarity": 0.1, "victim": {"defense": "reformer"}}


@pytest.fixture
def experiment(experiment_of, finished_run, image_tables, natural_images, tmp_path):
    """Eight test images and forty training images of 16 pixels; MagNet behind which a retrained classifier stands."""
    options = {"load": str(tmp_path / "magnet"), "error_drop_rate": 0.25, "jsd_drop_rate": 0.25, "windows": 400}
    MagnetAutoencoder.of(seeded(lambda: Autoencoder(3), 0).state_dict()).save(options["load"], {})
    tiers = {
        "budget": {"dissimilarity": 0.1}, "images": 3,
        "attacks": [{"name": "exact", "tier": "T4", "attack": "pgd", "options": {"steps": 1}}],
    }  # fmt: skip
    own = experiment_of(
        classifiers=[{"name": "vanilla", "architecture": "small_cnn", "retrain": {}}],
        defenses=[{"name": "reformer", "defense": "magnet", "options": options}],
        attack={"sets": [{"name": "grey", "attack": "fgsm", "dissimilarity": 0.1}]},
        evaluate={"tiers": tiers, "gallery": 2, "perturbations": 0},
    )
    layout = Layout(own.root)
    windows = natural_images.unfold(2, 16, 8).unfold(3, 16, 8).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    images = quantize(windows[torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))[:48]])
    train, *_ = image_tables(list(to_uint8(images[8:])), 40)
    ids = pa.array([f"train/{number}" for number in range(40)])
    finished_run(own, layout.ingested("train"), train.set_column(0, train.schema.field(0), ids))
    finished_run(own, layout.ingested("test"), *image_tables(list(to_uint8(images[:8])), 5, 3))
    for seed, behind in enumerate([None, "reformer"]):
        classifier = build_classifier("small_cnn", ["a", "b"], seed=seed).eval()
        save_classifier(layout.uri(layout.classifier("vanilla", behind)), classifier, {})
    return own


@pytest.fixture
def calibrated(experiment):
    """Makes the detectors of some settings here."""

    def make(*settings: str) -> None:
        (block,) = load_blocks(experiment, ["a", "b"], "cpu").values()
        for setting, fit in block.detectors(experiment, "reformer").items():
            if setting in settings:
                arrays, images = calibrate(fit, None)
                meta = {"made_of": fit.made_of, "images": images}
                save_artifact(Layout(experiment.root).uri(fit.folder), KIND, VERSION, arrays, meta)

    return make


def whole(experiment, folder: str) -> pa.Table:
    return pa.concat_tables(dataset_of(experiment.root, folder).tables())


def test_agrees_with_the_notebook_to_the_last_score(experiment, calibrated, run_here):
    calibrated("vanilla", "retrained")
    layout = Layout(experiment.root)
    run_here(attack.plan(experiment), experiment)
    run_here(evaluate.plan(experiment), experiment)
    run_here(adaptive.plan_tiers(experiment), experiment)
    run_here(adaptive.plan_checks(experiment), experiment)
    (context,) = adaptive.Context.all_of(experiment, "cpu")
    evaluate._write_block(context, evaluate.cells_of(experiment))
    train, clean = whole(experiment, "ingest/train"), whole(experiment, "ingest/test")
    training = (pixels_of(train), train["label"].to_pylist(), train["id"].to_pylist())
    defense = context.defended["reformer"].defense
    for setting, behind in (("vanilla", None), ("retrained", "reformer")):
        result = stl_ray.evaluate(
            load(layout.uri(layout.classifier("vanilla", behind))), pixels_of(clean), clean["label"].to_pylist(),
            ids=clean["id"].to_pylist(), defenses=[{"name": "reformer", "defense": defense}], training=training,
            seed=experiment.seed, progress=False,
        )  # fmt: skip
        ours = whole(experiment, "evaluate/vanilla/reformer-on-clean")
        theirs = result.predictions["reformer", "clean"]
        for column in ("", "_rejected", "_score"):
            assert ours[setting + column].to_pylist() == theirs["vanilla" + column].to_pylist()
        assert any(theirs["vanilla_rejected"].to_pylist())
    verdicts = whole(experiment, "evaluate/vanilla/reformer-under-attack").to_pylist()
    refused = dict(zip(ours["id"].to_pylist(), ours["retrained_rejected"].to_pylist(), strict=True))
    assert {row["id"]: row["verdicts"][0]["rejected"] for row in verdicts} == {
        row["id"]: refused[row["id"]] for row in verdicts
    }


def test_identity_an_estimate_counts_the_detector_and_times_it(experiment, calibrated):
    calibrated("vanilla", "retrained")
    (context,) = adaptive.Context.all_of(experiment, "cpu")
    for part in ("verdicts", "probes"):
        counts = counted(context, "reformer", part, 16).own.images
        assert counts[DETECTED] > 0 and counts[DIFFERENTIATED] > 0
    # Undefended, there is none.
    assert not counted(context, "none", "verdicts", 16).own.images[DETECTED]
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    seconds = _seconds(context.defended["reformer"], images, {DETECTED, DIFFERENTIATED})
    assert seconds.keys() == {DETECTED, DIFFERENTIATED}
    # Before the calibration, with one to few images in its place.
    (block,) = load_blocks(experiment.model_copy(update={"seed": 9}), ["a", "b"], "cpu").values()
    other = experiment.model_copy(update={"seed": 9})
    fits = block.detectors(other, "reformer").values()
    stand_ins = {fit.folder: calibrate(fit, 2)[0] for fit in fits}
    (context,) = adaptive.Context.all_of(other, "cpu", stand_ins)
    context.block.require_detectors()


def test_identity_a_set_on_the_defense_succeeds_only_where_it_is_accepted(experiment, calibrated, run_here):
    own = experiment.model_copy(update={"attack": experiment.attack.model_validate({"sets": [AWARE]}, strict=False)})
    calibrated("vanilla", "retrained")
    run_here(attack.plan(own), own)
    run_here(evaluate.plan(own), own)
    table = whole(own, "attack/vanilla/aware")
    predicted = whole(own, "evaluate/vanilla/reformer-on-aware").to_pylist()
    assert len(exact_pixels_of(table)) == 8
    for row, found in zip(table.to_pylist(), predicted, strict=True):
        said = found["label"] if found["vanilla_rejected"] else found["vanilla"]
        assert row["source_pred"] == said


def test_refuses_to_judge_before_the_calibration_and_with_one_of_other_inputs(experiment, calibrated, run_here):
    run_here(attack.plan(experiment), experiment)
    task = evaluate.plan(experiment).make_task
    with pytest.raises(IncompleteRunError, match=r"reformer, vanilla: its detector is not calibrated|not calibrated"):
        task()
    calibrated("vanilla")
    with pytest.raises(IncompleteRunError, match="not calibrated"):
        task()
    calibrated("vanilla", "retrained")
    task()
    other = experiment.model_copy(update={"seed": 9})
    (block,) = load_blocks(other, ["a", "b"], "cpu").values()
    assert block.defended["reformer"].detector is None and block.behind["reformer"].detector is None
    aware = experiment.model_copy(
        update={"attack": experiment.attack.model_validate({"sets": [AWARE]}, strict=False), "seed": 9}
    )
    (victim,) = victims_of([s.model_copy(update={"victim": s.victim.model_copy(update={"classifier": "vanilla"})})
                            for s in aware.attack.sets], aware, ["a", "b"])  # fmt: skip
    with pytest.raises(IncompleteRunError, match="not calibrated"):
        victim.detector.required()


def test_identity_other_options_of_a_detector_leave_what_is_purified_and_ask_for_another_calibration(
    experiment, calibrated
):
    calibrated("vanilla", "retrained")
    (item,) = experiment.defenses
    for options in ({"p": 2}, {"error_drop_rate": 0.5}, {"temperatures": [5.0]}):
        changed = item.model_copy(update={"options": {**item.options, **options}})
        other = experiment.model_copy(update={"defenses": (changed,)})
        before, after = (load_blocks(one, ["a", "b"], "cpu")["vanilla"] for one in (experiment, other))
        assert before.made_of("reformer") == after.made_of("reformer")
        assert before.behind["reformer"].detector is not None and after.behind["reformer"].detector is None
        fits = [block.detectors(one, "reformer")["vanilla"] for block, one in ((before, experiment), (after, other))]
        assert fits[0].made_of != fits[1].made_of


def test_identity_images_of_the_calibration_and_a_refusal_of_several_sizes(
    experiment, finished_run, image_tables, natural_images
):
    (block,) = load_blocks(experiment, ["a", "b"], "cpu").values()
    defense = block.defended["reformer"].defense
    train = dataset_of(experiment.root, "ingest/train")
    images, labels, ids = images_for(defense, train, 3)
    assert ids == defense.chosen(train.column("id"), 3) and len(ids) == 4
    position = {name: place for place, name in enumerate(train.column("id"))}
    everything = pixels_of(whole(experiment, "ingest/train"))
    for image, label, name in zip(images, labels.tolist(), ids, strict=True):
        assert (to_uint8(image[None])[0] == everything[position[name]]).all()
        assert label == position[name] % 2
    sizes = list(to_uint8(natural_images[:20])) + list(to_uint8(natural_images[:20, :, :16]))
    other = finished_run(experiment, "other", *image_tables(sizes, 40))
    with pytest.raises(InputError, match=r"training images of one size; set ingest\.size"):
        images_for(defense, other, 3)

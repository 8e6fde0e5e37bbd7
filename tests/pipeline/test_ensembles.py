"""Defenses that make no image of an image, through every job; every shard made here instead of in an actor."""

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from stl_ray.defenses import deployed_seeds
from stl_ray.errors import ConfigError, RunIdentityError
from stl_ray.evaluation import score
from stl_ray.images import encode_png, quantize, to_uint8
from stl_ray.models import build_classifier, predict, save_classifier
from stl_ray.pipeline import project
from stl_ray.pipeline.attack import job as attack
from stl_ray.pipeline.defended import load_blocks
from stl_ray.pipeline.defenses import make_defenses
from stl_ray.pipeline.evaluate import adaptive
from stl_ray.pipeline.evaluate import job as evaluate
from stl_ray.pipeline.evaluate.gallery import write_gallery
from stl_ray.pipeline.preflight import preflight
from stl_ray.report import build_report
from stl_ray.store import Dataset, Layout, Storage
from stl_ray.store.shards import table_from_bytes

DEFENSES = [
    {"name": "half", "defense": "ensemble", "options": {"of": ["none", "jpeg"]}},
    {"name": "jpeg", "defense": "jpeg"},
    {"name": "crops", "defense": "crop_ensemble", "options": {"crops": 2, "share": 0.6}},
]
RETRAINED = {"name": "vanilla", "architecture": "small_cnn", "retrain": {"defenses": ["half", "jpeg"]}}


@pytest.fixture
def images(natural_images) -> Tensor:
    return quantize(natural_images[:10, :, 8:24, 8:24])


@pytest.fixture
def made(experiment_of, finished_run, image_tables, images):
    """Makes an experiment with these defenses and a classifier whose answers depend on the image."""

    def make(*sizes: int, **sections):
        attacks = [
            {"name": "near", "tier": "T3", "attack": "pgd", "options": {"steps": 1}},
            {"name": "exact", "tier": "T4", "attack": "pgd", "options": {"steps": 1}},
        ]
        own = experiment_of(
            **{
                "defenses": DEFENSES,
                "project": {"splits": ["test"]},
                "attack": {"sets": [{"name": "set", "attack": "noise", "dissimilarity": 0.03}]},
                "evaluate": {
                    "gallery": 2,
                    "tiers": {"images": 3, "samples": 2, "budget": {"dissimilarity": 0.05}, "attacks": attacks},
                },
                **sections,
            }
        )
        layout = Layout(own.root)
        finished_run(own, layout.ingested("test"), *image_tables([encode_png(i) for i in to_uint8(images)], *sizes))
        classifier = build_classifier("small_cnn", ["a", "b"], seed=3).eval()
        save_classifier(layout.uri(layout.classifier("vanilla")), classifier, {})
        return own

    return make


def rows(experiment, folder: str) -> dict[str, dict]:
    tables = Dataset.open(Layout(experiment.root).uri(folder)).tables()
    return {row["id"]: row for table in tables for row in table.to_pylist()}


def test_identity_project_stores_the_transformations_alone(made, run_here):
    own = made(6, 4)
    job = project.plan(own)
    run_here(job, own)
    assert [run.folder for run in job.runs] == ["project/jpeg-test"]
    only = own.model_copy(update={"defenses": own.defenses[:1]})
    assert "no defense is listed that" in project.run(only)["summary"]


def test_invariant_an_ensemble_runs_through_every_job_whatever_the_shards(made, images, run_here, tmp_path):
    found = []
    for number, sizes in enumerate([(6, 4), (1, 9)]):
        own = made(*sizes, root=str(tmp_path / str(number)))
        run_here(attack.plan(own), own)
        run_here(evaluate.plan(own), own)
        run_here(adaptive.plan_tiers(own), own)
        folders = [
            f"evaluate/vanilla/{d}-{on}" for d in ("half", "crops") for on in ("on-clean", "on-set", "under-attack")
        ]
        found.append({folder: rows(own, folder) for folder in folders})
    for folder, table in found[0].items():
        other = found[1][folder]
        for name, row in table.items():
            keys = [key for key in row if key != "psnr"]
            assert [row[key] for key in keys] == [other[name][key] for key in keys]
    clean = found[0]["evaluate/vanilla/half-on-clean"]
    assert {row["status"] for row in clean.values()} == {"applied"}
    assert all(row["psnr"] != row["psnr"] and row["cluster"] == -1 for row in clean.values())
    # By hand: half of it is the classifier itself, half behind JPEG.
    (block,) = load_blocks(own, ["a", "b"], "cpu").values()
    classifier, jpeg = block.vanilla.classifier, block.defended["jpeg"].defense
    seen = quantize(jpeg.purify(images, seeds=deployed_seeds(0, list(clean))).images)
    expected = (classifier.logits(images).softmax(1) + classifier.logits(seen).softmax(1)).argmax(1).tolist()
    assert [row["vanilla"] for row in clean.values()] == expected
    assert expected != [0] * 10 and predict(classifier, images).shape == torch.Size([10])
    # T4 is there where all members are differentiable, and not behind JPEG.
    for name in ("half", "crops"):  # through each member's strongest gradient
        verdicts = [v for row in found[0][f"evaluate/vanilla/{name}-under-attack"].values() for v in row["verdicts"]]
        assert {"near", "exact"} <= {v["attack"] for v in verdicts}
    run_here(adaptive.plan_checks(own), own)
    _report(own)


def test_certificate_each_member_has_the_network_that_was_retrained_for_it(made, images, run_here):
    """Nothing is trained for the ensemble itself; tables, attacks and the network behind it agree with verdicts by hand."""
    behind = {"name": "on", "attack": "fgsm", "dissimilarity": 0.03,
              "victim": {"retrained_for": "half", "defense": "half", "gradient": "bpda"}}  # fmt: skip
    own = made(10, classifiers=[RETRAINED], project={"splits": ["train", "test"]}, attack={"sets": [behind]})
    preflight(own, "train")
    layout = Layout(own.root)
    vanilla, retrained = (build_classifier("small_cnn", ["a", "b"], seed=seed).eval() for seed in (3, 8))
    (jpeg,) = [item for item in make_defenses(own).values() if item.name == "jpeg"]
    save_classifier(layout.uri(layout.classifier("vanilla", "jpeg")), retrained, {"defense": jpeg.identity()})
    run_here(attack.plan(own), own)
    run_here(evaluate.plan(own), own)
    clean = rows(own, "evaluate/vanilla/half-on-clean")
    seen = quantize(jpeg.purify(images, seeds=deployed_seeds(0, list(clean))).images)
    alone = vanilla.logits(images).softmax(1)
    by_setting = {
        "vanilla": alone + vanilla.logits(seen).softmax(1),
        "retrained": alone + retrained.logits(seen).softmax(1),
    }
    verdicts = {setting: softmax.argmax(1).tolist() for setting, softmax in by_setting.items()}
    assert verdicts["vanilla"] != verdicts["retrained"]
    for setting, expected in verdicts.items():
        assert [row[setting] for row in clean.values()] == expected
    # The attacked model is the deployed one.
    assert [row["source_pred"] for row in rows(own, "attack/vanilla/on").values()] == verdicts["retrained"]
    (block,) = load_blocks(own, ["a", "b"], "cpu").values()
    # Without the defense, what stands behind it is all of its networks.
    bare = block.defended["half"].victim("none").bare
    expected = torch.stack([vanilla.logits(images).softmax(1), retrained.logits(images).softmax(1)]).mean(0)
    torch.testing.assert_close(bare.logits(images).softmax(1), expected)
    _, product = bare.logits_and_vjp(images, torch.ones_like)
    assert (
        product.shape == images.shape
        and block.defended["jpeg"].victim("none").bare is block.defended["jpeg"].classifier
    )
    identity = block.made_of("half")["retrained"]
    assert identity == {"none": block.vanilla.identity, "jpeg": block.defended["jpeg"].identity["classifier"]}
    save_classifier(layout.uri(layout.classifier("vanilla", "jpeg")), retrained, {"defense": {"quality": 1}})
    with pytest.raises(RunIdentityError, match="jpeg"):
        load_blocks(own, ["a", "b"], "cpu")


def _report(own) -> None:
    layout = Layout(own.root)
    predictions = {
        tuple(cell): pa.concat_tables(Dataset.open(layout.uri(run.folder)).tables())
        for (_, *cell), run in evaluate.cells_of(own).items()
    }
    (context,) = adaptive.Context.all_of(own, "cpu")
    clean, attacked = (evaluate.images_of(own, "vanilla", which) for which in ("clean", "set"))
    write_gallery(own, context.block, clean, {"set": attacked}, predictions)
    shown = table_from_bytes(Storage.open(own.root).read(layout.gallery("vanilla")), item="gallery").to_pylist()
    assert {row["defense"] for row in shown} == {"jpeg"}  # crops are listed later, and have no one image to show
    scores = score(predictions, classifier="vanilla", architecture="small_cnn", class_names=["a", "b"])
    scores["tiers"] = adaptive.stored_tier_scores(context, scores["chance"])
    assert {cell["psnr"] for cell in scores["cells"] if cell["defense"] in ("half", "crops")} == {None}
    Storage.open(own.root).write_json(layout.scores("vanilla"), scores)
    paths = build_report(own.root, layout.uri(Layout.report), own.report)
    assert paths


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"defenses": [{"name": "e", "defense": "ensemble", "options": {"of": ["none", "jpg"]}}]}, "jpg"),
        ({"defenses": [*DEFENSES, {"name": "e", "defense": "ensemble", "options": {"of": ["half", "jpeg"]}}]}, "half"),
        (
            {"classifiers": [{"name": "vanilla", "architecture": "small_cnn", "retrain": {"defenses": ["half"]}}],
             "project": {"splits": ["train"]}},
            "retrained for half by a network for each member.*jpeg too",
        ),
        (
            {"classifiers": [{"name": "vanilla", "architecture": "small_cnn", "retrain": {"defenses": ["crops"]}}],
             "project": {"splits": ["train"]}},
            "cannot be retrained for crops",
        ),
        (
            {"classifiers": [RETRAINED], "project": {"splits": ["train"]},
             "attack": {"sets": [{"name": "set", "attack": "fgsm", "dissimilarity": 0.03, "victim": {"retrained_for": "half"}}]}},
            "set: retrained for half, the classifier is a network for each member; expected victim.defense: half, or victim.retrained_for: one of its members",
        ),
    ],
)  # fmt: skip
def test_refuses_what_has_no_image_to_store_or_is_not_there(experiment_of, sections, message):
    with pytest.raises(ConfigError, match=message):
        preflight(experiment_of(**{"defenses": DEFENSES, **sections}), "evaluate")

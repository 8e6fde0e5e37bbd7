"""Draws as runs of `evaluate`: the same whatever the shards, of randomised defenses alone, told by the report."""

from dataclasses import replace

import pyarrow as pa
import pytest

from stl_ray.defenses import Detecting
from stl_ray.defenses.lid import LocalIntrinsicDimension
from stl_ray.defenses.magnet import RefusingMagNet
from stl_ray.errors import RunIdentityError
from stl_ray.images import decode, encode_png, quantize, to_tensor, to_uint8
from stl_ray.models import build_classifier, save_classifier
from stl_ray.pipeline.attack import job as attack
from stl_ray.pipeline.defended import load_blocks
from stl_ray.pipeline.evaluate.draws import plan_draws, stored_draws
from stl_ray.report.draws import draw_blocks
from stl_ray.report.records import DrawScore, Scores
from stl_ray.seeding import seed_of
from stl_ray.store import Dataset, Layout, Run
from tests.report.conftest import scores

NAMED = [
    {"name": "jpeg", "defense": "jpeg"},
    {"name": "deflected", "defense": "pixel_deflection", "options": {"map": "none", "deflections": 400}},
    {"name": "sap", "defense": "sap"},
]


@pytest.fixture
def made(experiment_of, finished_run, image_tables, natural_images, run_here, tmp_path):
    """Makes an attacked experiment of ten images in shards of these sizes."""

    def make(*sizes, draws=3, defenses=NAMED):
        images = quantize(natural_images[:10, :, 8:24, 8:24])
        own = experiment_of(
            root=str(tmp_path / "-".join(map(str, sizes))), defenses=defenses, evaluate={"draws": draws},
            attack={"sets": [{"name": "far", "attack": "noise", "dissimilarity": 0.1}]},
        )  # fmt: skip
        layout = Layout(own.root)
        finished_run(own, layout.ingested("test"), *image_tables([encode_png(i) for i in to_uint8(images)], *sizes))
        classifier = build_classifier("small_cnn", ["a", "b"], seed=3).eval()
        save_classifier(layout.uri(layout.classifier("vanilla")), classifier, {})
        run_here(attack.plan(own), own)
        return own

    return make


def rows_of(own, folder: str) -> list[dict]:
    return pa.concat_tables(Dataset.open(Layout(own.root).uri(folder)).tables()).sort_by("id").to_pylist()


def test_invariant_an_image_is_drawn_alike_whatever_its_shard(made, run_here):
    found = []
    for sizes in ((6, 4), (1, 9)):
        own = made(*sizes)
        job = plan_draws(own)
        # Wrapped networks draw too; JPEG does not.
        folders = [f"{name}-drawn-on-{images}" for name in ("deflected", "sap") for images in ("clean", "far")]
        assert [run.folder for run in job.runs] == [f"evaluate/vanilla/{folder}" for folder in folders]
        run_here(job, own)
        found.append([rows_of(own, run.folder) for run in job.runs])
    assert found[0] == found[1]
    assert {len(row["vanilla"]) for table in found[0] for row in table} == {3}


def test_agrees_with_the_defense_asked_by_itself(made, run_here):
    own = made(10)
    run_here(plan_draws(own), own)
    (block,) = load_blocks(own, ["a", "b"], "cpu").values()
    stored = rows_of(own, "attack/vanilla/far")
    images = to_tensor([decode(row["image"]["bytes"], max_pixels=10**6) for row in stored])
    ids = [row["id"] for row in stored]
    table = {row["id"]: row for row in rows_of(own, "evaluate/vanilla/sap-drawn-on-far")}
    model = replace(block.models("sap")["vanilla"], seed=seed_of(own.seed, "2", "evaluate.draws"))
    assert [table[name]["vanilla"][2] for name in ids] == model.decide(images, ids).prediction.tolist()


def test_scores_and_report_count_the_images_that_are_scored(made, run_here):
    own = made(10)
    run_here(plan_draws(own), own)
    (block,) = load_blocks(own, ["a", "b"], "cpu").values()
    stored = stored_draws(own, block, ["id-0", "id-3", "id-5", "elsewhere"])
    rows = [DrawScore.model_validate(row) for row in stored]
    assert [(row.defense, row.attack, row.every.total) for row in rows] == [
        (defense, images, 3) for defense in ("deflected", "sap") for images in ("clean", "far")
    ]
    plain = scores()
    for cell in plain["cells"]:
        cell["attack"] = {"fgsm-0.08": "far"}.get(cell["attack"], cell["attack"])
    (table,) = draw_blocks(Scores.model_validate({**plain, "draws": rows}, strict=False))
    assert [row[0].text for row in table.rows] == [
        "No defense",
        *(f"{name}, {what}" for name in ("deflected", "sap") for what in ("one draw", "majority of 3", "all 3")),
    ]
    assert table.rows[1][2].text == f"{rows[1].single:.3f}" and table.rows[6][2].text == f"{rows[3].every.share:.3f}"


def test_refuses_draws_of_another_number(made, run_here):
    own = made(10)
    run_here(plan_draws(own), own)
    more = own.model_copy(update={"evaluate": own.evaluate.model_copy(update={"draws": 4})})
    for run in plan_draws(more).runs:
        with pytest.raises(RunIdentityError, match="draws"):
            Run.open(own.root, run.folder).require(run.identity)


def test_identity_nothing_is_drawn_where_it_is_not_asked_for(made):
    own = made(10, draws=0)
    (block,) = load_blocks(own, ["a", "b"], "cpu").values()
    assert plan_draws(own) is None and stored_draws(own, block, []) == []
    assert plan_draws(made(4, 6, defenses=NAMED[:1])) is None
    assert list(draw_blocks(Scores.model_validate(scores()))) == []


def test_identity_no_randomised_defense_has_a_detector():
    # LID leaves the image as it is; of another one the rows would have to say what it refuses.
    assert set(Detecting.__subclasses__()) == {RefusingMagNet, LocalIntrinsicDimension}
    assert RefusingMagNet.randomised is False

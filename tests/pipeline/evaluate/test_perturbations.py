"""Perturbations as runs of `evaluate`: the same whatever the shards; every shard made here instead of in an actor."""

import pyarrow as pa
import pytest

from stl_ray.images import encode_png, quantize, to_uint8
from stl_ray.models import build_classifier, save_classifier
from stl_ray.pipeline.attack import job as attack
from stl_ray.pipeline.defended import load_blocks
from stl_ray.pipeline.evaluate.perturbations import plan_perturbations, stored_perturbations
from stl_ray.report.blocks import Figure, Table
from stl_ray.report.perturbations import perturbation_blocks
from stl_ray.report.records import Perturbation, Scores
from stl_ray.store import Dataset, Layout
from tests.report.conftest import scores

NAMED = [
    {"name": "jpeg", "defense": "jpeg", "options": {"quality": 30}},
    {"name": "both", "defense": "ensemble", "options": {"of": ["none", "jpeg"]}},
    {"name": "deflected", "defense": "pixel_deflection", "options": {"map": "none"}},
    {"name": "sap", "defense": "sap"},
]
SETS = [{"name": name, "attack": "noise", "dissimilarity": size} for name, size in (("weak", 0.01), ("strong", 0.1))]


@pytest.fixture
def made(experiment_of, finished_run, image_tables, natural_images, run_here, tmp_path):
    """Makes an attacked experiment of ten images in shards of these sizes."""

    def make(*sizes, count=6):
        images = quantize(natural_images[:10, :, 8:24, 8:24])
        own = experiment_of(
            root=str(tmp_path / "-".join(map(str, sizes))), defenses=NAMED, attack={"sets": SETS},
            evaluate={"perturbations": count},
        )  # fmt: skip
        layout = Layout(own.root)
        finished_run(own, layout.ingested("test"), *image_tables([encode_png(i) for i in to_uint8(images)], *sizes))
        classifier = build_classifier("small_cnn", ["a", "b"], seed=3).eval()
        save_classifier(layout.uri(layout.classifier("vanilla")), classifier, {})
        run_here(attack.plan(own), own)
        return own

    return make


def test_invariant_the_same_images_are_measured_whatever_the_shards(made, run_here):
    found = []
    for sizes in ((6, 4), (1, 9)):
        own = made(*sizes)
        job = plan_perturbations(own)
        # Of transformations alone: an ensemble has no one image behind it, a wrapped network none at all.
        assert [run.folder for run in job.runs] == [
            f"evaluate/vanilla/{defense}-against-{name}" for defense in ("jpeg", "deflected") for name in ("weak", "strong")
        ]  # fmt: skip
        run_here(job, own)
        tables = [Dataset.open(Layout(own.root).uri(run.folder)).tables() for run in job.runs]
        found.append([pa.concat_tables(table).sort_by("id").to_pylist() for table in tables])
    assert found[0] == found[1] and len(found[0][0]) == 6
    (block,) = load_blocks(own, ["a", "b"], "cpu").values()
    rows = [Perturbation.model_validate(row) for row in stored_perturbations(own, block)]
    assert [(row.defense, row.attack, row.images) for row in rows] == [
        (defense, name, 6) for defense in ("jpeg", "deflected") for name in ("weak", "strong")
    ]
    weak, strong = rows[:2]
    assert weak.image_before[1] == pytest.approx(0.01, rel=0.2) and strong.image_before[1] == pytest.approx(
        0.1, rel=0.1
    )
    table, *figures = perturbation_blocks(Scores.model_validate({**scores(), "perturbations": rows}))
    assert isinstance(table, Table) and [row[0].text for row in table.rows] == [
        "JPEG",
        "JPEG",
        "deflected",
        "deflected",
    ]
    assert table.rows[1][2].text == f"{strong.image_before[1]:.3f}" and table.rows[0][-1].text == "–"  # noqa: RUF001
    assert [figure.name for figure in figures if isinstance(figure, Figure)] == ["spectrum-weak", "spectrum-strong"]


def test_identity_nothing_is_measured_where_it_is_not_asked_for(made):
    own = made(10, count=0)
    (block,) = load_blocks(own, ["a", "b"], "cpu").values()
    assert plan_perturbations(own) is None and stored_perturbations(own, block) == []
    assert perturbation_blocks(Scores.model_validate(scores())) == ()

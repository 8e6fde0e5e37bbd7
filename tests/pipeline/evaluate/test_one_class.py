"""One class through attack, evaluate and the report, every shard made here instead of in an actor."""

import shutil

import pyarrow as pa

from stl_ray.evaluation import score
from stl_ray.images import image_schema
from stl_ray.models import build_classifier, save_classifier
from stl_ray.pipeline.attack import job as attack
from stl_ray.pipeline.evaluate import adaptive
from stl_ray.pipeline.evaluate import job as evaluate
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.report import build_report
from stl_ray.store import Dataset, Layout, Storage


def test_identity_one_class_runs_through(experiment, run_here, finished_run):
    layout = Layout(experiment.root)
    rows = [{**row, "label": 0} for t in dataset_of(experiment.root, "ingest/test").tables() for row in t.to_pylist()]
    shutil.rmtree(layout.uri("ingest/test"))
    finished_run(experiment, "ingest/test", pa.Table.from_pylist(rows, schema=image_schema("image", ["only"])))
    for root in (experiment.root, experiment.evaluate.tiers.substitute):
        save_classifier(
            Layout(root).uri(layout.classifier("vanilla")), build_classifier("small_cnn", ["only"], seed=0).eval(), {}
        )
    run_here(attack.plan(experiment), experiment)
    run_here(evaluate.plan(experiment), experiment)
    run_here(adaptive.plan_tiers(experiment), experiment)
    run_here(adaptive.plan_checks(experiment), experiment)
    tables = {
        tuple(cell): pa.concat_tables(Dataset.open(layout.uri(run.folder)).tables())
        for (_, *cell), run in evaluate.cells_of(experiment).items()
    }
    (context,) = adaptive.Context.all_of(experiment, "cpu")
    scores = score(tables, classifier="vanilla", architecture="small_cnn", class_names=["only"])
    scores["tiers"] = adaptive.stored_tier_scores(context, scores["chance"])
    assert {cell["accuracy"] for cell in scores["cells"]} == {1.0}
    assert {row["worst"]["accuracy"] for row in scores["tiers"]["rows"]} == {1.0}
    for row in scores["tiers"]["rows"][1:]:  # the first is without defense, of which there are no checks
        assert {flag["finding"] for flag in row["flags"] if flag["check"] in ("H2", "H8", "H13")} == {
            "of one class no image can be misclassified"
        }
    Storage.open(experiment.root).write_json(layout.scores("vanilla"), scores)
    build_report(experiment.root, layout.uri(Layout.report), experiment.report)

"""predictions.parquet: every cell of the scores is recounted from it, by DuckDB."""

import json
import shutil
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stl_ray.config import (
    AttackConfig,
    AttackedConfig,
    ClassifierConfig,
    Experiment,
    IngestConfig,
    NamedAttack,
    ReportConfig,
    Retraining,
    Source,
)
from stl_ray.errors import ArtifactError, AuditError, StorageError
from stl_ray.evaluation import PREDICTIONS_SCHEMA, score
from stl_ray.report import build_report
from stl_ray.report.tidy import SCHEMA
from stl_ray.store import Layout, PlannedShard, Run, Storage
from tests.recount import require_recounted

IMAGES, CLASSES = 60, ["a", "b", "c"]
CELLS = [(defense, attack) for defense in ("none", "stl", "lid") for attack in ("clean", "bim", "transfer")]
MEASURED = [field.name for field in SCHEMA][-5:]


def write_run(root: str, folder: str, table: pa.Table) -> None:
    """A finished run of two parts."""
    run = Run.open(root, folder)
    tables = [table.slice(0, 23), table.slice(23)]
    plan = [PlannedShard(number=n, source={}, rows=part.num_rows, digest=str(n)) for n, part in enumerate(tables)]
    run.start(plan, identity={}, environment={})
    for shard, part in zip(plan, tables, strict=True):
        run.publish(shard, part, [], seconds=0, attempt=1, environment={})
    run.finish(max_quarantined=0)


def some_predictions(draws: np.random.Generator, defense: str, attack: str) -> pa.Table:
    """Images in an order of their own; a detector behind `lid`, clusters behind `stl`, solves that diverged, equal images."""
    order = draws.permutation(IMAGES)
    answers = {
        name: np.where(draws.random(IMAGES) < 0.1, -1, draws.integers(0, 3, IMAGES))
        for name in ("vanilla", "retrained", "vanilla_float", "retrained_float")
    }
    rejected = {
        f"{name}_rejected": draws.random(IMAGES) < 0.3 * (defense == "lid") for name in ("vanilla", "retrained")
    }
    sure = {f"{name}_confidence": draws.random(IMAGES).astype(np.float32) for name in ("vanilla", "retrained")}
    scores = {
        f"{name}_score": draws.random(IMAGES).astype(np.float32) * (defense == "lid")
        for name in ("vanilla", "retrained")
    }
    columns = {
        "id": [f"test/{number:03d}" for number in order],
        "label": order % 3,
        **answers,
        **sure,
        **rejected,
        **scores,
        "psnr": np.where(draws.random(IMAGES) < 0.2, np.inf, draws.uniform(15, 50, IMAGES)).astype(np.float32),
        "cluster": draws.integers(0, 4, IMAGES) if defense == "stl" else np.full(IMAGES, -1),
        "status": draws.choice(["converged", "max_iterations", "diverged"], IMAGES),
    }
    table = pa.Table.from_pydict(columns, schema=PREDICTIONS_SCHEMA)
    # A run set one image aside; behind `stl`, when clean.
    return table.slice(0, IMAGES - 1) if (defense, attack) in (("stl", "clean"), ("none", "bim")) else table


def write_root(root: str) -> None:
    """An experiment of two classifiers, one of them retrained for defenses, with a set of their own and one of a surrogate's."""
    draws, layout, storage = np.random.default_rng(0), Layout(root), Storage.open(root)
    victim = AttackedConfig(classifier="surrogate")
    sets = (
        NamedAttack(name="bim", attack="bim", linf=8),
        NamedAttack(name="transfer", attack="pgd", linf=8, victim=victim),
    )
    experiment = Experiment(
        name="tidy",
        root="root",
        ingest=IngestConfig(test=Source(format="photographs")),
        classifiers=(
            ClassifierConfig(name="net", architecture="small_cnn", retrain=Retraining()),
            ClassifierConfig(name="Another", architecture="small_cnn"),
            ClassifierConfig(name="surrogate", architecture="small_cnn", scored=False),
        ),
        attack=AttackConfig(sets=sets),
    )
    storage.write_json(layout.experiment, experiment.model_dump(mode="json"))
    for folder in ("attack/net/bim", "attack/Another/bim", "attack/surrogate/transfer"):
        ids = [f"test/{number:03d}" for number in draws.permutation(IMAGES)]
        distances = {name: draws.random(IMAGES).astype(np.float32) for name in ("dissimilarity", "l2", "linf")}
        success = draws.random(IMAGES) < 0.5
        write_run(root, folder, pa.table({"id": ids, "status": ["ok"] * IMAGES, "success": success, **distances}))
    for name, retrained in (("net", ["stl", "lid"]), ("Another", [])):
        tables = {cell: some_predictions(draws, *cell) for cell in CELLS}
        for cell, table in tables.items():
            write_run(root, layout.predictions(name, *cell), table)
        scores = score(
            tables, classifier=name, architecture="small_cnn", class_names=CLASSES, retrained=retrained, detecting=["lid"],
            crafted={item.name: item.victim for item in sets},
        )  # fmt: skip
        storage.write_json(layout.scores(name), scores)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tidy") / "root"
    write_root(str(root))
    return root


@pytest.fixture(scope="module")
def parquet(written, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report")
    build_report(str(written), str(out), ReportConfig())
    return out / "predictions.parquet"


@pytest.fixture
def root(written, tmp_path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(written, tmp_path / "root"))


def rebuilt(root: Path) -> Path:
    build_report(str(root), str(root.parent / "report"), ReportConfig())
    return root.parent / "report" / "predictions.parquet"


@pytest.mark.parametrize("classifier", ["net", "Another"])
def test_agrees_scores_are_recounted_from_the_table(written, parquet, classifier):
    require_recounted(parquet, written / "evaluate" / classifier / "scores.json")


def test_identity_rows_are_sorted_and_every_stored_prediction_is_one(parquet):
    table = pq.read_table(parquet)
    assert table.schema.equals(SCHEMA)
    keys = ["classifier", "setting", "defense", "attack", "id"]
    assert table.select(keys).equals(table.sort_by([(key, "ascending") for key in keys]).select(keys))
    # Of each setting two cells lack an image: `none` under bim and `stl` when clean.
    assert table.num_rows == (9 + 9 + 9) * IMAGES - 3 * 2
    assert pq.ParquetFile(parquet).num_row_groups == 9 + 9 + 9
    unscored = duckdb.sql(
        f"SELECT classifier, count(DISTINCT id) FROM '{parquet}' WHERE NOT scored GROUP BY ALL ORDER BY ALL"
    )
    assert unscored.fetchall() == [("Another", 2), ("net", 2)]


def test_roundtrip_what_was_measured_of_the_attack_is_beside_its_prediction(written, parquet):
    """The surrogate's set of every classifier, the other one of its own; nothing of clean images."""
    for attack, folders in {
        "bim": {"net": "net", "Another": "Another"},
        "transfer": dict.fromkeys(("net", "Another"), "surrogate"),
    }.items():
        for classifier, folder in folders.items():
            measured = f"{written}/attack/{folder}/{attack}/parts/*.parquet"
            query = f"""
                SELECT count(*), count(*) FILTER (p.l2 = m.l2 AND p.linf = m.linf AND p.dissimilarity = m.dissimilarity
                    AND p.attack_success = m.success AND p.attack_status = m.status)
                FROM '{parquet}' p JOIN '{measured}' m USING (id) WHERE p.classifier = '{classifier}' AND p.attack = '{attack}'
            """
            ((rows, agreed),) = duckdb.sql(query).fetchall()
            assert rows == agreed > 100
    empty = " AND ".join(f"{name} IS NULL" for name in MEASURED)
    query = f"SELECT count(*) = count(*) FILTER ({empty}) FROM '{parquet}' WHERE attack = 'clean'"
    assert duckdb.sql(query).fetchall() == [(True,)]


def test_identity_the_cluster_when_clean_is_absent_where_the_clean_image_was_set_aside(parquet):
    query = f"""
        SELECT attack, count(*) FILTER (clean_cluster IS NULL) FROM '{parquet}'
        WHERE (classifier, setting, defense) = ('net', 'vanilla', 'stl') GROUP BY ALL ORDER BY ALL
    """
    assert duckdb.sql(query).fetchall() == [("bim", 1), ("clean", 0), ("transfer", 1)]


def test_invariant_same_inputs_give_the_same_bytes(written, parquet, tmp_path):
    build_report(str(written), str(tmp_path), ReportConfig())
    assert (tmp_path / "predictions.parquet").read_bytes() == parquet.read_bytes()


def test_invariant_without_its_set_an_attack_is_not_measured(root, parquet):
    shutil.rmtree(root / "attack" / "surrogate")
    table, whole = pq.read_table(rebuilt(root)), pq.read_table(parquet)
    kept = [name for name in table.column_names if name not in MEASURED]
    assert table.select(kept).equals(whole.select(kept))
    lost = table.filter(pa.compute.equal(table["attack"], "transfer"))
    assert lost.num_rows and all(lost[name].null_count == lost.num_rows for name in MEASURED)


def test_invariant_without_all_predictions_there_is_no_table(root):
    page = root.parent / "report" / "report.md"
    rebuilt(root).unlink()
    assert "every prediction in predictions.parquet" in page.read_text()
    (root / "evaluate" / "Another" / "lid-on-bim" / "MANIFEST.json").unlink()
    assert not rebuilt(root).exists()
    assert "predictions.parquet" not in page.read_text()


def _other_scores(root: Path, change) -> None:
    path = root / "evaluate" / "net" / "scores.json"
    scores = json.loads(path.read_text())
    change(scores)
    path.write_text(json.dumps(scores))


def test_refuses_scores_of_other_predictions(root):
    _other_scores(root, lambda scores: scores["cells"][4].update(correct=scores["cells"][4]["correct"] + 1))
    with pytest.raises(
        ArtifactError, match=r"net/stl-on-bim: the scores are not of these predictions.* in the setting vanilla"
    ):
        rebuilt(root)
    assert not (root.parent / "report" / "report.html").exists()


def test_refuses_scores_of_other_images(root):
    _other_scores(root, lambda scores: scores.update(ids_sha256="ab" * 32))
    with pytest.raises(ArtifactError, match=r"evaluate/net/scores.json: the scores are not of these predictions"):
        rebuilt(root)


def test_refuses_an_altered_part(root):
    part = next((root / "evaluate" / "net" / "stl-on-bim" / "parts").iterdir())
    table = pq.read_table(part)
    pq.write_table(table.set_column(table.column_names.index("psnr"), "psnr", pa.repeat(30.0, table.num_rows)), part)
    with pytest.raises(AuditError, match="the part was altered"):
        rebuilt(root)


def test_refuses_a_machine_without_room_for_temporary_files(written, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(StorageError, match=r"predictions.parquet: the table cannot be made .*absent"):
        build_report(str(written), str(tmp_path / "report"), ReportConfig())


@pytest.mark.s3
def test_roundtrip_a_root_in_a_bucket_has_the_same_table(s3, parquet):
    write_root(f"{s3}/experiment")
    build_report(f"{s3}/experiment", f"{s3}/experiment/report", ReportConfig())
    storage = Storage.open(f"{s3}/experiment/report")
    assert storage.read("predictions.parquet") == parquet.read_bytes()
    assert {"figures", "predictions.parquet", "report.html", "report.md", "tables"} == set(storage.names())

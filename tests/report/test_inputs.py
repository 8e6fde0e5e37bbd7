import json
import shutil

import pyarrow.parquet as pq
import pytest

from stl_ray.errors import ArtifactError, StlRayError
from stl_ray.report.inputs import read_inputs


def test_roundtrip_everything_is_read(experiment_root):
    inputs = read_inputs(str(experiment_root))
    assert inputs.experiment.name == "quickstart"
    (block,) = inputs.blocks
    assert (block.name, block.scores.architecture) == ("vanilla", "small_cnn")
    assert block.scores.class_names == ("astronaut", "coffee", "chelsea")
    assert len(block.gallery) == 4 * 3 * 3
    (space,) = inputs.spaces
    assert (space.name, space.loaded_from, space.problem) == ("natural", None, "")
    assert space.stored.universal.shape == (64, 3, 8, 8)
    assert space.stored.dictionaries.shape == (4, 64, 3, 8, 8)
    assert space.curves.clusters.sizes == (412, 388, 501, 299)
    assert [row.clusters for row in space.curves.clusters.candidates] == [2, 3, 4, 6, 8]
    assert {epoch.noisy_psnr for epoch in space.curves.autoencoder} == {17.25}
    ends = [space.curves.dictionaries[name][-1].converged for name in ("universal", "cluster_3")]
    assert ends == [True, False]
    assert list(inputs.training) == list(inputs.classifiers) == [
        "vanilla", "vanilla-for-jpeg", "vanilla-for-stl", "vanilla-for-stl_cluster",
    ]  # fmt: skip
    assert [session.job for session in inputs.sessions] == ["ingest", "fit", "project", "train", "attack", "evaluate"]
    assert [(m.stage, m.name) for m in inputs.manifests] == [
        ("ingest", "test"), ("ingest", "train"), ("project", "stl-train"),
    ]  # fmt: skip


def test_roundtrip_a_file_uri_is_a_root(experiment_root):
    assert read_inputs(experiment_root.as_uri()).blocks == read_inputs(str(experiment_root)).blocks


def _change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("path", "spoil"),
    [
        ("evaluate/vanilla/scores.json", lambda path: _change(path, version=1)),
        ("evaluate/vanilla/scores.json", lambda path: _change(path, cells=[{"setting": "vanilla"}])),
        ("evaluate/vanilla/scores.json", lambda path: path.write_text(path.read_text()[:100])),
        ("evaluate/vanilla/gallery.parquet", lambda path: path.write_bytes(path.read_bytes()[:-50])),
        ("spaces/natural/curves.json", lambda path: _change(path, autoencoder=[{"epoch": 1}])),
        ("train/vanilla/model.json", lambda path: path.write_text("[]")),
        ("experiment.json", lambda path: _change(path, unknown=1)),
        ("ingest/test/MANIFEST.json", lambda path: _change(path, rows="many")),
        ("spaces/natural/space.json", lambda path: _change(path, version=1)),
        ("spaces/natural/space.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-4])),
    ],
)
def test_refuses_a_spoiled_file_by_its_name(experiment_root, path, spoil):
    spoil(experiment_root / path)
    with pytest.raises(StlRayError, match=path.split(".")[0]):
        read_inputs(str(experiment_root))


def test_refuses_a_broken_line_by_its_number(experiment_root):
    path = experiment_root / "train" / "vanilla" / "metrics.jsonl"
    path.write_text(path.read_text() + '{"epoch": 1\n')
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl line 31"):
        read_inputs(str(experiment_root))


def test_roundtrip_scores_of_before_the_attacks_were_counted_are_read(experiment_root):
    path = experiment_root / "evaluate" / "vanilla" / "scores.json"
    scores = json.loads(path.read_text())
    del scores["attacks"]
    for cell in scores["cells"]:
        del cell["statuses"]
    path.write_text(json.dumps(scores))
    found = read_inputs(str(experiment_root)).blocks[0].scores
    assert found.attacks == {} and all(cell.statuses == {} for cell in found.cells)


def test_roundtrip_curves_of_before_the_diagnostic_are_read(experiment_root):
    path = experiment_root / "spaces" / "natural" / "curves.json"
    curves = json.loads(path.read_text())
    del curves["clusters"]["candidates"]
    for epoch in curves["autoencoder"]:
        del epoch["noisy_psnr"]
    for steps in curves["dictionaries"].values():
        for step in steps:
            del step["converged"]
    path.write_text(json.dumps(curves))
    found = read_inputs(str(experiment_root)).spaces[0].curves
    assert found.clusters.sizes == (412, 388, 501, 299) and found.clusters.candidates == ()
    assert all(epoch.noisy_psnr is None for epoch in found.autoencoder)
    assert all(step.converged is None for steps in found.dictionaries.values() for step in steps)


def test_roundtrip_a_gallery_without_rows_is_there(experiment_root):
    path = experiment_root / "evaluate" / "vanilla" / "gallery.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    assert read_inputs(str(experiment_root)).blocks[0].gallery == ()
    path.unlink()
    assert read_inputs(str(experiment_root)).blocks[0].gallery is None


def test_identity_blocks_come_in_the_order_of_the_experiment(experiment_root):
    """What the experiment does not list any more is not shown."""
    layout = experiment_root / "evaluate"
    for name in ("another", "older"):
        shutil.copytree(layout / "vanilla", layout / name)
        _change(layout / name / "scores.json", classifier=name)
    classifiers = [{"name": name, "architecture": "small_cnn"} for name in ("vanilla", "another")]
    _change(experiment_root / "experiment.json", classifiers=classifiers)
    assert [block.name for block in read_inputs(str(experiment_root)).blocks] == ["vanilla", "another"]

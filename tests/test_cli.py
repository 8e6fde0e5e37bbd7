import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stl_ray.cli import main
from stl_ray.config.help import JOBS
from stl_ray.store import PlannedShard, Run, Storage, save_artifact
from stl_ray.store.lease import held

REPOSITORY = Path(__file__).parents[1]


def _help(capsys, *command):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_help_names_the_jobs_in_their_order(capsys):
    text = _help(capsys)
    places = [text.index(f"{job} ") for job in JOBS]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("job", "keys"),
    [
        (
            "ingest",
            [
                "ingest.train.format: photographs | folder | cifar10 | parquet | tar (required)",
                "ingest.shard_size: int",
            ],
        ),
        (
            "fit",
            ["spaces.N.clusters: int [4]", "spaces.N.dictionary.lmbda: float [0.2]", "spaces.N.load: str | absent"],
        ),
        ("project", ["defenses: list of sections", "spaces: list of sections", "solver.method: auto | active_set"]),
        (
            "train",
            [
                "classifiers.N.architecture: str (required)",
                "classifiers.N.weights: str | absent [absent]",
                "classifiers.N.classes: str | list of str | absent [absent]",
                "classifiers.N.recipe: section | absent",
                "classifiers.N.retrain.start: str [scratch]",
                "train.epochs: int [30]",
            ],
        ),
        ("attack", ["attack.sets.N.dissimilarity: float | absent [absent]", "attack.sets.N.options: mapping"]),
        (
            "evaluate",
            ["evaluate.gallery: int [8]", "evaluate.tiers.attacks.N.tier: T1b | T2 | T3 | T4 | T5 (required)"],
        ),
        ("report", ["report.title: str"]),
    ],
)
def test_help_of_a_job_explains_its_keys(capsys, job, keys):
    text = _help(capsys, job)
    for key in [*keys, "root: str (required)", "ray.actors: int | absent [absent]"]:
        assert f"  {key}" in text


@pytest.mark.parametrize("job", JOBS)
def test_every_job_has_a_script_for_ray_job_submit(job):
    command = [sys.executable, str(REPOSITORY / "jobs" / f"{job}.py"), "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"usage: stl-ray {job}" in text


def test_refuses_wrong_configurations_with_exit_code_2(tmp_path, capsys):
    assert main(["ingest", str(tmp_path / "absent.yaml")]) == 2
    assert "cannot read the configuration" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("classifiers.0.architecture=resnet5_small", "resnet5_small: unknown classifier; expected 'resnet"),
        ("attack.sets=[{name: x, attack: fgms, dissimilarity: 0.1}]", r"fgms: unknown attack; expected 'fgsm'\?"),
        ("attack.sets=[{name: x, attack: bim, dissimilarity: 0.1, options: {stesp: 3}}]", r"expected 'steps'\?"),
        ("defenses=[{name: x, defense: jpg}]", r"jpg: unknown defense; expected 'jpeg'\?"),
        ("defenses=[{name: x, defense: jpeg, options: {quality: 101}}]", r"jpeg\.quality: wrong option"),
    ],
)
def test_refuses_names_that_no_registry_knows_before_any_work(tmp_path, capsys, override, message):
    import re

    config = str(REPOSITORY / "configs" / "quickstart.yaml")
    assert main(["ingest", config, f"root={tmp_path}/root", override]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "root").exists()


@pytest.fixture
def two_runs(tmp_path) -> Path:
    """A root with two finished runs of one row each."""
    for name in ("a", "b"):
        run = Run(Storage.open(str(tmp_path / "stage" / name)), "stage", name)
        plan = [PlannedShard(number=0, source={}, rows=1, digest="x")]
        run.start(plan, identity={}, environment={})
        run.publish(plan[0], pa.table({"id": [name]}), [], seconds=0, attempt=1, environment={})
        run.finish(max_quarantined=0)
    return tmp_path


def test_verify_counts_what_is_sound_and_fails_on_what_is_not(two_runs, capsys):
    assert main(["verify", str(two_runs)]) == 0
    assert capsys.readouterr().out.count("1 rows in 1 parts, 0 quarantined, sound\n") == 2
    next((two_runs / "stage" / "b" / "parts").iterdir()).write_bytes(b"")
    assert main(["verify", str(two_runs)]) == 1
    assert "b: FAILED: " in capsys.readouterr().out


def test_verify_fails_on_a_run_that_is_not_finished_and_says_what_is_missing(two_runs, capsys):
    (two_runs / "stage" / "b" / "MANIFEST.json").unlink()
    (two_runs / "stage" / "b" / "done" / "00000.json").unlink()
    assert main(["verify", str(two_runs)]) == 1
    assert "b: FAILED: " in (text := capsys.readouterr().out) and "first missing: [0]" in text


@pytest.mark.parametrize("command", ["verify", "sweep"])
def test_refuses_a_folder_without_datasets(tmp_path, capsys, command):
    assert main([command, str(tmp_path)]) == 2
    assert "no dataset at or below this folder" in capsys.readouterr().err


def test_sweep_finds_what_nobody_reads_and_removes_it_when_told_to(two_runs, capsys):
    left = [two_runs / "stage" / "a" / place for place in ("parts/part-00000-late.parquet", "done/.tmp-0123")]
    for file in left:
        file.write_bytes(b"0123456789")
    assert main(["verify", str(two_runs)]) == 0
    assert "sound; 1 parts that nobody reads (stl-ray sweep)" in capsys.readouterr().out
    assert main(["sweep", str(two_runs)]) == 0
    text = capsys.readouterr().out
    assert "stage/a/parts/part-00000-late.parquet" in text and "stage/a/done/.tmp-0123" in text
    assert "2 files of 20 B found; --delete removes them" in text
    assert all(file.exists() for file in left)
    assert main(["sweep", str(two_runs), "--delete"]) == 0
    assert "2 files of 20 B removed" in capsys.readouterr().out
    assert not any(file.exists() for file in left)
    assert main(["verify", str(two_runs)]) == 0


def test_sweep_passes_over_a_run_at_which_a_driver_is_at_work(two_runs, capsys):
    late = two_runs / "stage" / "a" / "parts" / "part-00000-late.parquet"
    late.write_bytes(b"")
    with held([Storage.open(str(two_runs / "stage" / "a"))]):
        assert main(["sweep", str(two_runs), "--delete"]) == 1
    assert "stage/a: passed over: " in (text := capsys.readouterr().out) and "another driver is at work" in text
    assert late.exists()


def _status(root: Path, job: str, **record) -> None:
    figures = {
        "label": job, "unit": "images", "done": 250, "total": 1000, "rate": 20.0, "rate_now": 25.0, "seconds_left": 37.5,
        "quarantined": {"unreadable": 2}, "in_flight": 6, "busy": 0.9, "note": "",
    }  # fmt: skip
    now = datetime.now(UTC).isoformat(timespec="seconds")
    whole = {"job": job, "state": "running", "host": "h", "pid": 7, "started": now, "updated": now, "progress": figures}
    Storage.open(str(root)).write_json(f"status/{job}.json", {**whole, **record})


def test_status_shows_figures_errors_and_silence(tmp_path, capsys):
    left_out = "left out of train 3 .txt"
    _status(tmp_path, "ingest", state="done", started="2026-01-01T00:00:00+00:00", remark=left_out)
    _status(tmp_path, "fit", state="failed", error="no space", progress=None, started="2026-01-02T00:00:00+00:00")
    _status(tmp_path, "project", updated="2026-01-01T00:00:00+00:00")
    assert main(["status", str(tmp_path)]) == 0
    heading, ingest, fit, project, *remarks = capsys.readouterr().out.splitlines()
    assert heading.split() == ["job", "state", "done", "of", "per", "s", "now", "in", "flight", "left", "quarantined"]
    assert ingest.split() == ["ingest", "done", "250", "1000", "images", "20.0", "unreadable", "2"]
    assert fit.split() == ["fit", "failed"]
    assert project.split()[-6:] == ["25.0", "6", "38", "s", "unreadable", "2"]
    assert remarks[:2] == [f"ingest: {left_out}", "fit: no space"]
    assert remarks[2].startswith("project: no sign of life for ") and "process 7 on h" in remarks[2]


def test_status_refuses_a_root_where_nothing_was_started(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 2
    assert "no job was started with this root" in capsys.readouterr().err


def _reference_file(folder: Path, name: str = "4_p5_lm0.2.npy", seed: int = 0) -> Path:
    """A file like the authors' (S, S, C, K) dictionaries."""
    filters = np.random.default_rng(seed).standard_normal((5, 5, 3, 4)).astype(np.float32)
    folder.mkdir(exist_ok=True)
    np.save(folder / name, filters / np.sqrt((filters**2).sum(axis=(0, 1, 2))))
    return folder / name


@pytest.mark.parametrize(
    ("command", "phrases"),
    [
        ("describe", ["stl-ray describe runs/quickstart ", "SPACE/portrait", "metadata[b'stl_ray']"]),
        ("import", ["stl-ray import 64_p8_lm0.2.npy spaces/authors", "(S, S, C, K)", "BGR", "--lmbda 0.1"]),
    ],
)
def test_help_of_a_command_on_spaces_teaches_by_example(capsys, command, phrases):
    text = _help(capsys, command)
    assert "examples:" in text
    for phrase in phrases:
        assert phrase in text


def test_roundtrip_an_imported_dictionary_is_a_space_that_can_be_described(tmp_path, capsys):
    from stl_ray import QuasiNaturalSpace

    file, folder = _reference_file(tmp_path), tmp_path / "space"
    assert main(["import", str(file), str(folder)]) == 0
    said = capsys.readouterr().out
    space = QuasiNaturalSpace.load(str(folder))
    assert space.router is None and space.lmbda == 0.2
    np.testing.assert_array_equal(space.universal_dictionary.filters, np.load(file).transpose(3, 2, 0, 1)[:, ::-1])
    assert space.digest in said
    assert main(["describe", str(folder)]) == 0
    page = capsys.readouterr().out
    assert f"digest         {space.digest}" in page
    assert "4_p5_lm0.2.npy" in page and str(tmp_path) not in json.dumps(dict(space.provenance))
    assert str(folder / "portrait" / "filters.png") in page
    assert [path.name for path in (folder / "portrait").iterdir()] == ["filters.png"]
    assert main(["describe", str(folder), "--output", str(tmp_path / "else")]) == 0
    assert (tmp_path / "else" / "filters.png").is_file()


def test_identity_what_a_defense_was_fitted_with_is_described(tmp_path, capsys):
    folder = tmp_path / "artifacts" / "quilting_library-12ab"
    arrays = {"patches": np.zeros((7, 75), np.uint8)}
    digest = save_artifact(str(folder), "quilting_library", 1, arrays, {"recipe": {"patches": 9}, "stl_ray": "0.1"})
    assert main(["describe", str(folder)]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"The quilting_library in {folder}\n")
    for line in (f"digest   {digest}", "arrays   patches 7 x 75 uint8", 'recipe   {"patches": 9}', "stl_ray  0.1"):
        assert line in page.split("\n")
    (folder / "quilting_library.safetensors").write_bytes(b"else")
    assert main(["describe", str(folder)]) == 1
    assert "altered since it was written" in capsys.readouterr().err


@pytest.mark.s3
def test_roundtrip_a_space_in_a_bucket_is_described_there(s3, ceph, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    space = f"{s3}/spaces #1?endpoint_url={ceph.endpoint}"
    assert main(["import", str(_reference_file(tmp_path)), space]) == 0
    assert main(["describe", space]) == 0, capsys.readouterr()
    assert {"portrait", "space.json"} <= set(Storage.open(space).names())


def test_a_file_whose_path_has_an_equals_sign_is_a_file(tmp_path, capsys):
    file = tmp_path / "lr=0.1" / "c.yaml"
    file.parent.mkdir()
    file.write_text("- no configuration")
    assert main(["quickstart", str(file)]) == 2
    assert "lr=0.1/c.yaml: not a configuration" in capsys.readouterr().err


def test_roundtrip_the_same_import_twice_changes_nothing(tmp_path):
    file, folder = _reference_file(tmp_path), tmp_path / "space"
    assert main(["import", str(file), str(folder)]) == 0
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert main(["import", str(file), str(folder)]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("other", [["--lmbda", "0.1"], []])
def test_refuses_to_import_over_another_space(tmp_path, capsys, other):
    folder = tmp_path / "space"
    assert main(["import", str(_reference_file(tmp_path)), str(folder)]) == 0
    before = (folder / "space.json").read_bytes()
    file = _reference_file(tmp_path / "other", seed=0 if other else 1)
    assert main(["import", str(file), str(folder), *other]) == 2
    assert "another space is there already; give another folder" in capsys.readouterr().err
    assert (folder / "space.json").read_bytes() == before


def test_identity_lambda_of_an_import_is_the_given_one_before_the_names(tmp_path):
    from stl_ray import QuasiNaturalSpace

    file = _reference_file(tmp_path, "filters.npy")
    assert main(["import", str(file), str(tmp_path / "space"), "--lmbda", "0.3"]) == 0
    assert QuasiNaturalSpace.load(str(tmp_path / "space")).lmbda == 0.3


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("4_p5_lm0.2.npy", None, "no readable .npy array"),
        ("4_p5_lm0.2.npy", np.array([{"an": "object"}], dtype=object), "no readable .npy array"),
        ("4_p5_lm0.2.npy", np.zeros((5, 5, 3)), "not an array of filters; expected (S, S, C, K), floating point"),
        ("4_p5_lm0.2.npy", np.ones((5, 5, 3, 4), np.float32), "filters break their joint norm convention"),
        ("filters.npy", np.ones((5, 5, 3, 4), np.float32), "no lambda in the file's name; expected K_pS_lmLAMBDA.npy"),
        (
            "4_p5_lm0.npy",
            np.full((5, 5, 3, 4), 75**-0.5, np.float32),
            "lambda out of range; expected a positive number",
        ),
    ],
)
def test_refuses_what_is_no_dictionary_of_the_authors_by_its_name(tmp_path, capsys, name, array, message):
    if array is not None:
        np.save(tmp_path / name, array, allow_pickle=True)
    assert main(["import", str(tmp_path / name), str(tmp_path / "space")]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / name}: {message}" in error
    assert not (tmp_path / "space").exists()


def test_refuses_to_describe_a_folder_without_a_space(tmp_path, capsys):
    assert main(["describe", str(tmp_path)]) == 2
    assert f"{tmp_path}: no space here" in capsys.readouterr().err


def test_invariant_describing_a_space_loads_neither_torch_nor_ray(tmp_path):
    assert main(["import", str(_reference_file(tmp_path)), str(tmp_path / "space")]) == 0
    code = (
        f"import sys; from stl_ray.cli import main; assert main(['describe', {str(tmp_path / 'space')!r}]) == 0; "
        "print('LOADED', sorted({'torch', 'ray', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "LOADED []"


def test_agrees_with_the_authors_published_dictionaries(shared_data, tmp_path, capsys):
    for file in sorted((shared_data / "reference" / "dictionaries").rglob("*.npy")):
        folder = tmp_path / file.parent.name / file.stem
        assert main(["import", str(file), str(folder)]) == 0
        assert main(["describe", str(folder)]) == 0
        page = capsys.readouterr().out
        assert "K = 64 of S = 8 x 8 pixels, C = 3 channels, joint norm" in page
        assert f"lambda         {file.stem.partition('lm')[2]}\n" in page

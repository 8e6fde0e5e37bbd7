"""Dictionaries on Ray: the same bits on any number of workers, whoever dies, and what is there is gone on with."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import pyarrow as pa
import pytest
import ray
import torch
import yaml

from stl_ray import QuasiNaturalSpace
from stl_ray.cli import main
from stl_ray.config import load_experiment
from stl_ray.csc import Dictionary, learn_dictionary
from stl_ray.csc.learning import learn, partition
from stl_ray.errors import TensorError, TrainingError
from stl_ray.images import to_tensor
from stl_ray.pipeline.batches import pixels_of
from stl_ray.pipeline.estimate import estimate
from stl_ray.pipeline.fit import block_workers, dictionaries
from stl_ray.pipeline.fit.block_workers import BlockRows, RayBlockPool, Worker
from stl_ray.pipeline.fit.job import fits_of
from stl_ray.pipeline.fit.space_fit import SpaceFit
from stl_ray.store import Dataset
from stl_ray.store.lease import LOCK
from stl_ray.training import fit_space

pytestmark = pytest.mark.ray

NAMES = ["universal", "cluster_0", "cluster_1"]
LEARN, HOLDOUT = list(range(20, 2, -1)), list(range(30, 35))


@pytest.fixture
def prepared(tiny, write_config, tmp_path) -> str:
    """The configuration of a root that has all of the tiny fit but its dictionaries."""
    config = write_config(tmp_path)
    fit = fit_of(config)
    for step in ("ingest/train", fit.thumbnails, fit.autoencoder, fit.latents, fit.strata, fit.samples):
        shutil.copytree(tiny / step, tmp_path / "root" / step)
    return config


def fit_of(config: str, *overrides: str) -> SpaceFit:
    """The fit of the one space of a configuration."""
    (fit,) = fits_of(load_experiment(config, overrides))
    return fit


@pytest.fixture
def hired(tiny, write_config, tmp_path):
    """Makes a pool of workers of so many CPUs that holds LEARN and HOLDOUT, images of the tiny fit, in blocks of 5."""
    fit = fit_of(write_config(tmp_path))
    samples = Dataset.open(str(tiny / fit.samples))
    blocks = [
        [BlockRows(tuple(places[index] for index in part)) for part in partition(len(places), 5)]
        for places in (LEARN, HOLDOUT)
    ]

    def make(workers, cpus=1) -> RayBlockPool:
        return RayBlockPool(
            with_ray(fit, cpus_per_actor=cpus), "universal", samples, *blocks, workers=workers, method="auto"
        )

    return make


def with_ray(fit: SpaceFit, **resources) -> SpaceFit:
    """The fit with other Ray resources."""
    ray_config = fit.experiment.ray.model_copy(update=resources)
    return replace(fit, experiment=fit.experiment.model_copy(update={"ray": ray_config}))


@pytest.fixture(scope="module")
def recipe(write_config, tmp_path_factory):
    """Makes the configuration of a short learning."""
    config = fit_of(write_config(tmp_path_factory.mktemp("recipe"))).space.dictionary
    return lambda method: config.model_copy(update={"method": method, "block": 5, "iterations": 3})


@pytest.fixture(scope="module")
def alone(tiny, recipe, write_config, tmp_path_factory):
    """Makes what one process learns from the images of `hired`, once."""
    fit = fit_of(write_config(tmp_path_factory.mktemp("alone")))
    table = pa.concat_tables(Dataset.open(str(tiny / fit.samples)).tables())
    parts = [table.take(places) for places in (LEARN, HOLDOUT)]
    images, holdout = (to_tensor(pixels_of(part)) for part in parts)
    ids, holdout_ids = (part.column("id").to_pylist() for part in parts)

    @cache
    def make(method):
        steps = learn_dictionary(
            images, recipe(method), seed=1, name="universal", holdout=holdout, ids=ids, holdout_ids=holdout_ids
        )
        return [(step.row(), step.dictionary) for step in steps]

    return make


def learned_by(pool, config) -> list[tuple[dict, Dictionary]]:
    return [(step.row(), step.dictionary) for step in learn(pool, config, seed=1, name="universal")]


def everything_free() -> bool:
    """Whether all CPUs come back."""
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    return ray.available_resources().get("CPU") == 2


@pytest.mark.faults
@pytest.mark.parametrize("workers", [1, 4])  # and 2 below, some of which die
def test_invariant_any_number_of_workers_learns_the_same_bits(hired, recipe, alone, monkeypatch, workers):
    class Half(Worker):
        """Of half a CPU, so that four fit here, but with a whole thread."""

        def __init__(self, fit, *more):
            super().__init__(with_ray(fit, cpus_per_actor=1), *more)

    monkeypatch.setattr(block_workers, "Worker", Half)
    with hired(workers, cpus=0.5) as pool:
        assert len(pool._workers) == workers
        for method in ("consensus", "online"):
            assert learned_by(pool, recipe(method)) == alone(method)
    assert everything_free()


@pytest.mark.faults
def test_invariant_workers_that_die_at_any_question_cost_nothing(hired, recipe, alone, monkeypatch, tmp_path):
    questions = {0: "patches", 1: "code", 2: "local_filters", 3: "statistics", 4: "judge"}

    class Dying(Worker):
        """Dies once when its block is asked that, the first time or later."""

        def answer(self, number, question, *arguments):
            marker = tmp_path / question
            if questions.get(number) == question and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().answer(number, question, *arguments)

    monkeypatch.setattr(block_workers, "Worker", Dying)
    with hired(2) as pool:
        for method in ("consensus", "online"):
            assert learned_by(pool, recipe(method)) == alone(method)
    assert all((tmp_path / question).exists() for question in questions.values())


@pytest.mark.faults
def test_invariant_a_crew_that_does_not_fit_takes_no_place_from_one_that_does(hired):
    @ray.remote(num_cpus=1)
    class Neighbour:
        def pid(self):
            return os.getpid()

    neighbour = Neighbour.remote()
    ray.get(neighbour.pid.remote())
    with hired(2) as waiting:
        with hired(1) as pool:
            assert len(pool.patches(1, range(2))) == 2
        asked = waiting._workers[0].answer.remote(0, "patches", 1)
        assert ray.wait([asked], timeout=1)[0] == []
        ray.kill(neighbour)
        assert len(waiting.patches(1, range(2))) == 2
    assert everything_free()


@pytest.mark.faults
def test_refuses_what_a_worker_refuses_and_says_why(hired, monkeypatch):
    class Strict(Worker):
        def answer(self, number, question, *arguments):
            raise TensorError("too flat", item="id-7", expected="texture")

    class Other(Worker):
        def __init__(self, *arguments):
            super().__init__(*arguments[:-1], "9.9")

    for worker, kind, message in (
        (Strict, TensorError, "^id-7: too flat; expected texture$"),
        (Other, TrainingError, r"universal: a worker failed .* another version of stl-ray; expected 9\.9"),
    ):
        monkeypatch.setattr(block_workers, "Worker", worker)
        with pytest.raises(kind, match=message), hired(1) as pool:
            pool.patches(1, range(2))
    assert everything_free()


@pytest.mark.faults
def test_refuses_a_worker_that_always_dies_and_names_its_dictionary(prepared, monkeypatch, capsys):
    class Dying(Worker):
        def answer(self, number, question, *arguments):
            if question == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            return super().answer(number, question, *arguments)

    class Doomed(RayBlockPool):
        def _ask(self, blocks, question, arguments):
            return super()._ask(blocks, "die" if self._name == "cluster_0" else question, arguments)

    def learn_with_a_doomed_crew(learning, workers, board):
        """In the process that drives one dictionary, which Ray may use for others later."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(block_workers, "Worker", Dying)
            patch.setattr(block_workers, "DEATHS", 1)
            patch.setattr(dictionaries, "RayBlockPool", Doomed)
            learning.run(workers, board)

    monkeypatch.setattr(dictionaries, "_learn", learn_with_a_doomed_crew)
    assert main(["fit", prepared]) == 1
    error = capsys.readouterr().err
    assert "TrainingError: cluster_0: a worker died more than 1 times; see the Ray logs of this session" in error
    # The others are done and kept.
    root = Path(load_experiment(prepared).root)
    assert [path.parent.name for path in sorted(root.glob("fit/dictionaries-*/*/dictionary.json"))] == [
        "cluster_1", "universal"
    ]  # fmt: skip
    assert not (root / "spaces").exists()
    assert everything_free()


def stopped(config, overrides, local_ray, how: signal.Signals, until) -> tuple[int, float]:
    """Fit in another process that gets a signal as soon as `until` says so: exit code, and seconds until it ended."""
    command = [sys.executable, "-m", "stl_ray.cli", "fit", config, *overrides]
    driver = subprocess.Popen(
        command, env={**os.environ, "RAY_ADDRESS": local_ray}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while not until() and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert driver.poll() is None, driver.stderr.read().decode()
    driver.send_signal(how)
    start = time.monotonic()
    try:
        return driver.wait(60), time.monotonic() - start
    finally:
        driver.kill()


@pytest.mark.faults
def test_invariant_a_fit_resumes_after_its_driver_was_interrupted_and_killed(local_ray, tiny, prepared):
    overrides = ["spaces.0.dictionary.iterations=40", "spaces.0.dictionary.tolerance=0.0"]
    fit = fit_of(prepared, *overrides)
    folder = Path(fit.experiment.root) / fit.dictionaries

    def kept() -> dict[str, int]:
        """The iteration of every dictionary's last checkpoint."""
        found = sorted(folder.glob("*/checkpoint-*.json"))
        return {path.parent.name: int(path.stem.rpartition("-")[2]) for path in found}

    code, _ = stopped(prepared, overrides, local_ray, signal.SIGINT, kept)
    assert code == 130
    first = kept()
    code, _ = stopped(
        prepared, overrides, local_ray, signal.SIGKILL, lambda: kept() != first and max(kept().values()) >= 10
    )
    assert code == -signal.SIGKILL
    second = kept()
    finished = {path.parent.name for path in folder.glob("*/dictionary.json")}
    assert second and len(finished) < 3

    assert main(["fit", prepared, *overrides]) == 0
    continued = QuasiNaturalSpace.load(f"{fit.experiment.root}/spaces/natural")
    assert continued.digest == fitted_here(tiny, fit).digest


def fitted_here(tiny, fit: SpaceFit) -> QuasiNaturalSpace:
    """What `fit_space` makes of the training images of the tiny experiment."""
    table = pa.concat_tables(Dataset.open(str(tiny / "ingest/train")).tables())
    return fit_space(to_tensor(pixels_of(table)), table.column("id").to_pylist(), fit.space, seed=fit.seed)


def test_agrees_with_fit_space(tiny, write_config, tmp_path):
    made = QuasiNaturalSpace.load(str(tiny / "spaces/natural"))
    here = fitted_here(tiny, fit_of(write_config(tmp_path)))
    # To the bit: autoencoder, PCA, centroids, references, and every dictionary.
    assert here.digest == made.digest
    assert torch.equal(here.samples, made.samples)
    assert {**here.provenance, **made.provenance} == made.provenance
    assert set(made.provenance) - set(here.provenance) == {"dataset", "stl_ray"}


def written(root: Path, *without: str) -> dict[Path, int]:
    """When every file was written, but for the locks that every driver writes."""
    files = [path for path in root.rglob("*") if path.is_file() and path.name != LOCK]
    return {path: path.stat().st_mtime_ns for path in files if path.relative_to(root).parts[0] not in without}


@pytest.mark.faults
def test_invariant_spaces_share_what_they_agree_on_and_only_the_rest_is_made(tiny, write_config, tmp_path, capsys):
    """Of one space another lambda, of one fewer clusters: a step is made once, what was there stays as it was."""
    root = tmp_path / "root"
    for folder in ("ingest/train", "fit", "spaces"):
        shutil.copytree(tiny / folder, root / folder)
    (natural,) = yaml.safe_load(Path(write_config(tmp_path)).read_text())["spaces"]
    few = {**natural["dictionary"], "iterations": 2}
    spaces = [
        {**natural, "name": "finer", "dictionary": {**few, "lmbda": 0.1}},
        {**natural, "name": "whole", "clusters": 1, "dictionary": few},
        natural,
    ]
    before = written(root, "jobs", "status", "spaces", "experiment.json")
    defenses = [{"name": "stl", "defense": "stl", "options": {"space": "finer"}}]
    config = write_config(tmp_path, spaces=spaces, defenses=defenses)
    assert main(["fit", config]) == 0
    shown = capsys.readouterr().err
    assert "fit dictionaries of finer: " in shown and "fit dictionaries of whole: " in shown
    after = written(root, "jobs", "status", "spaces", "experiment.json")
    assert {path: after[path] for path in before} == before
    made = {path.relative_to(root).parts[1].partition("-")[0] for path in after.keys() - before.keys()}
    assert made == {"strata", "samples", "dictionaries"}
    assert sorted(path.name.partition("-")[0] for path in (root / "fit").glob("*-*")) == [
        *["autoencoder"], *["dictionaries"] * 3, "latents", *["samples"] * 2, *["strata"] * 2, "thumbnails"
    ]  # fmt: skip
    old, finer, whole, same = (
        QuasiNaturalSpace.load(str(folder / "spaces" / name))
        for folder, name in ((tiny, "natural"), (root, "finer"), (root, "whole"), (root, "natural"))
    )
    assert finer.lmbda == 0.1 and len({old.digest, finer.digest, whole.digest}) == 3 and same.digest == old.digest
    assert torch.equal(finer.router.clusters.latents, old.router.clusters.latents)
    for name, tensor in old.router.autoencoder.state_dict().items():
        assert torch.equal(whole.router.autoencoder.state_dict()[name], tensor)
    assert [record["iterations"] for record in finer.provenance["dictionaries"].values()] == [2, 2, 2]
    assert main(["describe", str(root)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{root} has 3 spaces; describe one of them:"
    assert said[1:] == [f"{root}/spaces/{name}" for name in ("finer", "natural", "whole")]
    found = estimate("fit", load_experiment(config))
    assert len(found.steps) == 10 and {step.left for step in found.steps} == {0}


@pytest.mark.faults
def test_invariant_another_lambda_makes_the_dictionaries_alone(tiny, write_config, tmp_path, capsys):
    root = tmp_path / "root"
    for folder in ("ingest/train", "fit", "spaces"):
        shutil.copytree(tiny / folder, root / folder)
    config, overrides = write_config(tmp_path), ["spaces.0.dictionary.lmbda=0.1", "spaces.0.dictionary.iterations=2"]
    before = written(root, "jobs", "status", "spaces", "experiment.json")
    assert main(["project", config, *overrides]) == 1
    assert "fitted by other settings than those at hand; run `stl-ray fit` again" in capsys.readouterr().err
    assert main(["fit", config, *overrides]) == 0
    after = written(root, "jobs", "status", "spaces", "experiment.json")
    assert {path: after[path] for path in before} == before
    new = {path.relative_to(root).parts[1] for path in after.keys() - before.keys()}
    assert new == {fit_of(config, *overrides).dictionaries.partition("/")[2]}
    assert QuasiNaturalSpace.load(str(root / "spaces/natural")).lmbda == 0.1

"""The steps of `fit` on Ray: what is killed goes on to the same result, and what is done is not done again."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from stl_ray.config import load_experiment
from stl_ray.errors import ConfigError, RunIdentityError
from stl_ray.pipeline.fit import autoencoder, latents, thumbnails
from stl_ray.pipeline.fit.latents import load_latents
from stl_ray.pipeline.fit.thumbnails import load_thumbnails
from stl_ray.runtime.ray_train import checkpoint_of, resume
from stl_ray.space import encode
from stl_ray.space.pretrained import load_autoencoder
from stl_ray.store import Dataset, Storage, verify
from stl_ray.training.space.autoencoder import new_autoencoder, train_autoencoder

pytestmark = pytest.mark.ray

RECIPE = {"epochs": 8, "patience": 8, "batch_size": 16}


def experiment_in(write_config, folder, **recipe):
    return load_experiment(write_config(folder, fit={"autoencoder": {**RECIPE, **recipe}}))


@pytest.fixture(scope="module")
def fitted(tiny, write_config, tmp_path_factory):
    """The experiment of `tiny` after its fit."""
    folder = tmp_path_factory.mktemp("fitted")
    for name in ("ingest/train", "fit"):
        shutil.copytree(tiny / name, folder / "root" / name)
    return load_experiment(write_config(folder))


@pytest.fixture(scope="module")
def here(fitted):
    """The last epoch and the rows of RECIPE in this process."""
    small, _ = load_thumbnails(Dataset.open(f"{fitted.root}/fit/thumbnails"))
    config = fitted.fit.autoencoder.model_copy(update=RECIPE)
    epochs = list(train_autoencoder(new_autoencoder(32, seed=1), small, config, seed=1))
    return epochs[-1], [untimed(epoch.row()) for epoch in epochs]


@pytest.fixture
def prepared(fitted, write_config, tmp_path):
    """Makes an experiment that has thumbnails and nothing more, and their dataset."""

    def make(**recipe):
        for folder in ("ingest/train", "fit/thumbnails"):
            shutil.copytree(f"{fitted.root}/{folder}", tmp_path / "root" / folder)
        return experiment_in(write_config, tmp_path, **recipe), Dataset.open(str(tmp_path / "root/fit/thumbnails"))

    return make


def untimed(row: dict) -> dict:
    return {key: value for key, value in row.items() if "second" not in key}


def rows_of(experiment) -> list[dict]:
    """The curve without its times."""
    return [untimed(row) for row in autoencoder.curve(experiment)]


def require_same_as_here(experiment, here) -> None:
    """Weights and curve are those of a training in one process, bit for bit."""
    last, rows = here
    network, meta, _ = load_autoencoder(f"{experiment.root}/fit/autoencoder")
    for name, tensor in last.autoencoder().state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name
    assert rows_of(experiment) == rows
    best = rows[meta["best_epoch"] - 1]
    assert best["best"] and not any(row["best"] for row in rows[meta["best_epoch"] :])
    assert {key: meta[key] for key in ("side", "epochs")} == {"side": 32, "epochs": len(rows)}
    for key in ("validation_loss", "psnr", "noisy_psnr"):
        assert meta[key] == best[key]


def test_identity_what_the_steps_leave(fitted):
    root = fitted.root
    small, ids = load_thumbnails(Dataset.open(f"{root}/fit/thumbnails"))
    assert len(ids) == 120 and verify(f"{root}/fit/thumbnails")["rows"] == 120
    network, meta, _ = load_autoencoder(f"{root}/fit/autoencoder")
    # The name of the checkpoint carries the identity: other settings never go on from these weights.
    assert Path(f"{root}/fit/autoencoder", checkpoint_of(meta["identity"])).is_file()
    other = {**meta["identity"], "seed": 2}
    assert resume(Storage.open(f"{root}/fit/autoencoder"), other) == (None, [])
    values, same_ids = load_latents(Dataset.open(f"{root}/fit/latents"))
    assert same_ids == ids and verify(f"{root}/fit/latents")["rows"] == 120
    assert torch.equal(torch.from_numpy(values), encode(network, small))


def test_invariant_what_is_done_is_not_done_again(local_ray, fitted, capfd):
    def written():
        files = [path for path in Path(fitted.root).rglob("*") if path.is_file() and path.name != "lease.lock"]
        return {path: path.stat().st_mtime_ns for path in files}

    before = written()
    small = thumbnails.run(fitted)
    digest = autoencoder.run(fitted, small)
    again = latents.run(fitted, small, digest)
    assert written() == before
    assert [small, again] == [Dataset.open(f"{fitted.root}/fit/{name}") for name in ("thumbnails", "latents")]
    assert digest == load_autoencoder(f"{fitted.root}/fit/autoencoder")[2]
    shown = capfd.readouterr().err
    assert "fit thumbnails: 120/120 images" in shown and "fit latents: 120/120 images" in shown


def test_refuses_what_was_made_with_other_settings(fitted):
    def changed(**recipe):
        fit = fitted.fit
        other = fit.model_copy(update={"autoencoder": fit.autoencoder.model_copy(update=recipe)})
        return fitted.model_copy(update={"fit": other})

    small = Dataset.open(f"{fitted.root}/fit/thumbnails")
    with pytest.raises(RunIdentityError, match=r"expected \{'side': 32\}; got \{'side': 64\}"):
        thumbnails.run(changed(side=64))
    with pytest.raises(RunIdentityError, match=r"autoencoder\.noise': 0\.15.*0\.2"):
        autoencoder.run(changed(noise=0.2), small)


def test_invariant_a_worker_that_dies_within_an_epoch_costs_nothing(here, prepared, tmp_path, monkeypatch):
    marker, work = tmp_path / "died", autoencoder._work

    def dying(settings):
        step, steps = torch.optim.Adam.step, []

        def counted(*arguments, **keys):
            steps.append(0)
            if len(steps) == 17 and not marker.exists():  # the third step of the third epoch
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **keys)

        torch.optim.Adam.step = counted
        work(settings)

    experiment, small = prepared()
    monkeypatch.setattr(autoencoder, "_work", dying)
    autoencoder.run(experiment, small)
    assert marker.exists()
    require_same_as_here(experiment, here)


@pytest.mark.slow
def test_invariant_training_continues_after_its_driver_is_killed(local_ray, here, prepared):
    experiment, small = prepared()
    driver = (
        "import sys; from stl_ray.config import Experiment; from stl_ray.pipeline.fit import autoencoder; "
        "from stl_ray.runtime.session import ray_session; from stl_ray.store import Dataset; "
        "experiment = Experiment.model_validate_json(sys.stdin.read())\n"
        "with ray_session(experiment.ray): autoencoder.run(experiment, Dataset.open(sys.argv[1]))"
    )
    command = [sys.executable, "-c", driver, str(small.storage.root)]
    process = subprocess.Popen(
        command, env={**os.environ, "RAY_ADDRESS": local_ray}, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdin.write(experiment.model_dump_json().encode())
    process.stdin.close()
    deadline = time.monotonic() + 120
    while len(autoencoder.curve(experiment)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = autoencoder.curve(experiment)
    folder = Path(small.storage.root).parent / "autoencoder"
    assert not (folder / "autoencoder.json").exists(), process.stderr.read().decode()
    assert 3 <= len(before) < RECIPE["epochs"]
    autoencoder.run(experiment, small)
    require_same_as_here(experiment, here)
    # With their times: they were not trained again. At most the last report before the kill was lost.
    assert autoencoder.curve(experiment)[:2] == before[:2]


@pytest.mark.slow
def test_agrees_two_workers_with_one(here, prepared):
    experiment, small = prepared(workers=2)
    autoencoder.run(experiment, small)
    for row, other in zip(rows_of(experiment), here[1], strict=True):
        # Each worker's batch norm sees half a batch, here of eight images; so the loss is near, and not the same.
        assert row["train_loss"] != other["train_loss"]
        assert row["noisy_psnr"] == pytest.approx(other["noisy_psnr"], rel=1e-6)
        assert row["validation_loss"] == pytest.approx(other["validation_loss"], rel=0.05)


def test_refuses_more_workers_than_fit(prepared):
    experiment, small = prepared(workers=3)
    with pytest.raises(ConfigError, match=r"fit\.autoencoder\.workers: the cluster cannot hold that many workers"):
        autoencoder.run(experiment, small)

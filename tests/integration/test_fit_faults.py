"""The steps of `fit` on Ray: what is killed goes on to the same result, and what is done is not done again."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stl_ray.config import load_experiment
from stl_ray.errors import ConfigError, RunIdentityError
from stl_ray.pipeline.fit import autoencoder, latents, thumbnails
from stl_ray.pipeline.fit.job import fits_of
from stl_ray.pipeline.fit.latents import load_latents
from stl_ray.pipeline.fit.space_fit import SpaceFit
from stl_ray.pipeline.fit.thumbnails import load_thumbnails
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.runtime.ray_train import checkpoint_of, resume
from stl_ray.space import encode
from stl_ray.space.pretrained import load_autoencoder
from stl_ray.store import Storage, verify
from stl_ray.training.space.autoencoder import new_autoencoder, train_autoencoder

pytestmark = pytest.mark.ray

RECIPE = {"epochs": 8, "patience": 8, "batch_size": 16}


def fit_in(write_config, folder, **recipe) -> SpaceFit:
    space = {"name": "natural", "autoencoder": {**RECIPE, **recipe}}
    return fits_of(load_experiment(write_config(folder, spaces=[space])))[0]


@pytest.fixture(scope="module")
def fitted(tiny, write_config, tmp_path_factory):
    """The fit of `tiny`, done."""
    folder = tmp_path_factory.mktemp("fitted")
    for name in ("ingest/train", "fit"):
        shutil.copytree(tiny / name, folder / "root" / name)
    return fits_of(load_experiment(write_config(folder)))[0]


@pytest.fixture(scope="module")
def here(fitted):
    """The last epoch and the rows of RECIPE in this process."""
    small, _ = load_thumbnails(dataset_of(fitted.experiment.root, fitted.thumbnails))
    config = fitted.space.autoencoder.model_copy(update=RECIPE)
    epochs = list(train_autoencoder(new_autoencoder(32, seed=1), small, config, seed=1))
    return epochs[-1], [untimed(epoch.row()) for epoch in epochs]


@pytest.fixture
def prepared(fitted, write_config, tmp_path):
    """Makes a fit that has thumbnails and nothing more, and their dataset."""

    def make(**recipe):
        for folder in ("ingest/train", fitted.thumbnails):
            shutil.copytree(f"{fitted.experiment.root}/{folder}", tmp_path / "root" / folder)
        fit = fit_in(write_config, tmp_path, **recipe)
        return fit, dataset_of(fit.experiment.root, fit.thumbnails)

    return make


def untimed(row: dict) -> dict:
    return {key: value for key, value in row.items() if "second" not in key}


def rows_of(fit) -> list[dict]:
    """The curve without its times."""
    return [untimed(row) for row in autoencoder.curve(fit)]


def require_same_as_here(fit, here) -> None:
    """Weights and curve are those of a training in one process, bit for bit."""
    last, rows = here
    network, meta, _ = load_autoencoder(f"{fit.experiment.root}/{fit.autoencoder}")
    for name, tensor in last.autoencoder().state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name
    assert rows_of(fit) == rows
    best = rows[meta["best_epoch"] - 1]
    assert best["best"] and not any(row["best"] for row in rows[meta["best_epoch"] :])
    assert {key: meta[key] for key in ("side", "epochs")} == {"side": 32, "epochs": len(rows)}
    for key in ("validation_loss", "psnr", "noisy_psnr"):
        assert meta[key] == best[key]


def test_identity_what_the_steps_leave(fitted):
    root = fitted.experiment.root
    small, ids = load_thumbnails(dataset_of(root, fitted.thumbnails))
    assert len(ids) == 120 and verify(f"{root}/{fitted.thumbnails}")["rows"] == 120
    network, meta, _ = load_autoencoder(f"{root}/{fitted.autoencoder}")
    # The name of the checkpoint carries the identity: other settings never go on from these weights.
    assert Path(f"{root}/{fitted.autoencoder}", checkpoint_of(meta["identity"])).is_file()
    other = {**meta["identity"], "seed": 2}
    assert resume(Storage.open(f"{root}/{fitted.autoencoder}"), other) == (None, [])
    values, same_ids = load_latents(dataset_of(root, fitted.latents))
    assert same_ids == ids and verify(f"{root}/{fitted.latents}")["rows"] == 120
    assert torch.equal(torch.from_numpy(values), encode(network, small))


def test_invariant_what_is_done_is_not_done_again(local_ray, fitted, capfd):
    def written():
        files = [
            path for path in Path(fitted.experiment.root).rglob("*") if path.is_file() and path.name != "lease.lock"
        ]
        return {path: path.stat().st_mtime_ns for path in files}

    before = written()
    small = thumbnails.run(fitted)
    digest = autoencoder.run(fitted, small)
    again = latents.run(fitted, small, digest)
    assert written() == before
    root = fitted.experiment.root
    assert [small, again] == [dataset_of(root, folder) for folder in (fitted.thumbnails, fitted.latents)]
    assert digest == load_autoencoder(f"{root}/{fitted.autoencoder}")[2]
    shown = capfd.readouterr().err
    assert "fit thumbnails of natural: 120/120 images" in shown and "fit latents of natural: 120/120 images" in shown


def test_refuses_what_was_made_of_other_images(fitted, tmp_path):
    """Such as those of another ingest into the same root, whose settings are the same."""
    small = dataset_of(fitted.experiment.root, fitted.thumbnails)
    other = replace(small, manifest={**small.manifest, "digest": "ab" * 32})
    with pytest.raises(RunIdentityError, match=r"expected \{'thumbnails': .*; got \{'thumbnails': 'abab"):
        autoencoder.run(fitted, other)


@pytest.mark.faults
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

    fit, small = prepared()
    monkeypatch.setattr(autoencoder, "_work", dying)
    autoencoder.run(fit, small)
    assert marker.exists()
    require_same_as_here(fit, here)


@pytest.mark.slow
def test_invariant_training_continues_after_its_driver_is_killed(local_ray, here, prepared):
    fit, small = prepared()
    driver = (
        "import sys; from stl_ray.config import Experiment; from stl_ray.pipeline.fit import autoencoder; "
        "from stl_ray.pipeline.fit.job import fits_of; "
        "from stl_ray.runtime.session import ray_session; from stl_ray.store import Dataset; "
        "(fit,) = fits_of(Experiment.model_validate_json(sys.stdin.read()))\n"
        "with ray_session(fit.experiment.ray): autoencoder.run(fit, Dataset.open(sys.argv[1]))"
    )
    command = [sys.executable, "-c", driver, str(small.storage.root)]
    process = subprocess.Popen(
        command, env={**os.environ, "RAY_ADDRESS": local_ray}, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdin.write(fit.experiment.model_dump_json().encode())
    process.stdin.close()
    deadline = time.monotonic() + 120
    while len(autoencoder.curve(fit)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = autoencoder.curve(fit)
    folder = Path(fit.experiment.root) / fit.autoencoder
    assert not (folder / "autoencoder.json").exists(), process.stderr.read().decode()
    assert 3 <= len(before) < RECIPE["epochs"]
    autoencoder.run(fit, small)
    require_same_as_here(fit, here)
    # With their times: they were not trained again. At most the last report before the kill was lost.
    assert autoencoder.curve(fit)[:2] == before[:2]


@pytest.mark.slow
def test_agrees_two_workers_with_one(here, prepared):
    fit, small = prepared(workers=2)
    autoencoder.run(fit, small)
    for row, other in zip(rows_of(fit), here[1], strict=True):
        # Each worker's batch norm sees half a batch, here of eight images; so the loss is near, and not the same.
        assert row["train_loss"] != other["train_loss"]
        assert row["noisy_psnr"] == pytest.approx(other["noisy_psnr"], rel=1e-6)
        assert row["validation_loss"] == pytest.approx(other["validation_loss"], rel=0.05)


def test_refuses_more_workers_than_fit(prepared):
    fit, small = prepared(workers=3)
    with pytest.raises(
        ConfigError, match=r"spaces\.0\.autoencoder\.workers: the cluster cannot hold that many workers"
    ):
        autoencoder.run(fit, small)

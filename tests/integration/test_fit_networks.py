"""Networks of defenses, trained by `fit` on Ray: what is killed goes on to what a training in one process gives."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import save

from stl_ray.config import load_experiment
from stl_ray.defenses.magnet_autoencoder import MagnetAutoencoder
from stl_ray.pipeline.estimate.fit import fit_steps
from stl_ray.pipeline.fit import networks, windows
from stl_ray.pipeline.fit.artifacts import make_artifact, record_of
from stl_ray.pipeline.fitted import artifacts_of
from stl_ray.runtime.ray_train import HISTORY, checkpoint_of
from stl_ray.store import Storage
from stl_ray.training.defenses.networks import weights_of

pytestmark = pytest.mark.ray


@pytest.mark.faults
def test_invariant_a_worker_that_dies_within_an_epoch_costs_nothing(
    images_in_root, write_config, tmp_path, monkeypatch, capfd
):
    options = {"epochs": 5, "batch_size": 32, "side": 16}
    defenses = [{"name": "reformer", "defense": "magnet", "options": options}]
    (fit,) = artifacts_of(load_experiment(write_config(tmp_path, spaces=[], defenses=defenses)))
    marker, work = tmp_path / "died", networks._work

    def dying(settings):
        step, steps = torch.optim.Adam.step, []

        def counted(*arguments, **keys):
            steps.append(0)
            if len(steps) == 11 and not marker.exists():  # the third of four steps of the third epoch
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **keys)

        torch.optim.Adam.step = counted
        work(settings)

    monkeypatch.setattr(networks, "_work", dying)
    (run,) = make_artifact(fit).values()
    assert marker.exists() and run.rows == 120
    assert "fit training of reformer: 5/5 epochs" in capfd.readouterr().err
    *_, last = windows.epochs(run, fit.recipe, fit.experiment.seed, torch.device("cpu"), None)
    made = MagnetAutoencoder.load(fit.storage.root)
    assert made.digest == MagnetAutoencoder.of(weights_of(last.state())).digest
    (history,) = images_in_root.glob(f"fit/training-*/{HISTORY}")
    rows = [json.loads(line) for line in history.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[-1]["validation_loss"] == last.validation_loss
    assert make_artifact(fit) == {}


def test_a_dry_run_counts_the_windows_of_the_epochs_that_are_left(images_in_root, write_config, tmp_path, local_ray):
    options = {"epochs": 5, "side": 16, "windows": 50, "width": 4, "layers": 1, "mixtures": 1}
    defenses = [{"name": "likely", "defense": "pixel_defend", "options": options}]
    experiment = load_experiment(write_config(tmp_path, spaces=[], defenses=defenses))
    (fit,) = artifacts_of(experiment)
    drawn, training = fit_steps(experiment)
    assert (drawn.unit, drawn.total, drawn.left) == ("images", 120, 120)
    assert (training.unit, training.total, training.left) == ("windows", 250, 250)
    assert training.seconds > 0 and training.bytes > 0
    assert not (images_in_root / "fit").exists()
    storage = Storage.open(experiment.root).below(networks.training_folder(fit))
    history = {"history": json.dumps([{"epoch": 1}, {"epoch": 2}])}
    storage.write(checkpoint_of(record_of(fit)), save({"epoch": torch.tensor(2)}, metadata=history))
    assert fit_steps(experiment)[1].left == 150

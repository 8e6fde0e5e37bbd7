"""Networks of defenses, trained by `fit` on Ray: what is killed goes on to what a training in one process gives."""

import json
import os
import signal

import pytest
import torch

from stl_ray.config import load_experiment
from stl_ray.defenses.magnet_autoencoder import MagnetAutoencoder
from stl_ray.pipeline.fit import magnet, networks
from stl_ray.pipeline.fit.artifacts import make_artifact
from stl_ray.pipeline.fitted import artifacts_of
from stl_ray.runtime.ray_train import HISTORY

pytestmark = pytest.mark.ray


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
    *_, last = magnet._epochs(run, fit.recipe, fit.experiment.seed, torch.device("cpu"), None)
    made = MagnetAutoencoder.load(fit.storage.root)
    assert made.digest == magnet.autoencoder_of(last.state()).digest
    (history,) = images_in_root.glob(f"fit/training-*/{HISTORY}")
    rows = [json.loads(line) for line in history.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[-1]["validation_loss"] == last.validation_loss
    assert make_artifact(fit) == {}

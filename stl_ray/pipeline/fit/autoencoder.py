"""The autoencoder: the denoising autoencoder, trained by Ray Train on the thumbnails, or taken from elsewhere."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from ray.train.torch import get_device, prepare_model
from torch import Tensor

from stl_ray import __version__
from stl_ray.errors import ConfigError
from stl_ray.pipeline.fit.space_fit import SpaceFit
from stl_ray.pipeline.fit.thumbnails import load_thumbnails
from stl_ray.runtime import ray_train
from stl_ray.runtime.concurrency import bind
from stl_ray.runtime.progress import JobProgress
from stl_ray.runtime.progress_actor import make_board
from stl_ray.runtime.ray_train import HISTORY, Workers, rank_and_world_size, report, resume
from stl_ray.runtime.side_by_side import run_side_by_side
from stl_ray.space import Autoencoder
from stl_ray.space.pretrained import load_autoencoder, save_autoencoder
from stl_ray.store import Dataset, Storage, require_same
from stl_ray.training.space.autoencoder import best_autoencoder, new_autoencoder, split, train_autoencoder


def run(fit: SpaceFit, thumbnails: Dataset) -> str:
    """Train or copy the autoencoder unless it is there; the digest of its artifact.

    Args:
        fit: the space, with root and Ray resources.
        thumbnails: the run of thumbnails.

    Raises:
        ConfigError: if the workers do not fit on the cluster, or a pretrained autoencoder has another side.
        ArtifactError: if the autoencoder, there or pretrained, is unreadable.
        RunIdentityError: if an autoencoder is there that was made otherwise.
        TrainingError: if it cannot be trained on the thumbnails.
    """
    storage = _storage(fit)
    given = pretrained(fit)
    if storage.exists("autoencoder.json"):
        _, meta, digest = load_autoencoder(storage.root)
        if given is None:
            require_same(meta.get("identity", {}), _identity(fit, thumbnails), storage.root)
        else:
            require_same({"pretrained": digest}, {"pretrained": given[2]}, storage.root)
        return digest
    if given is not None:
        # With its record, whose figures were measured where it was trained.
        return save_autoencoder(storage.root, given[0], given[1])
    _train(fit, thumbnails)
    return load_autoencoder(storage.root)[2]


def pretrained(fit: SpaceFit) -> tuple[Autoencoder, dict[str, Any], str] | None:
    """The configured pretrained autoencoder, its record and digest; None where one is to be trained.

    Raises:
        ArtifactError: if it is missing or unreadable.
        ConfigError: if it sees thumbnails of another side than the configuration says.
    """
    config = fit.space.autoencoder
    if config.pretrained is None:
        return None
    autoencoder, meta, digest = load_autoencoder(config.pretrained)
    if autoencoder.side != config.side:
        raise ConfigError(
            f"the pretrained autoencoder in {config.pretrained} sees thumbnails of another side",
            item=fit.key("autoencoder.side"),
            expected=autoencoder.side,
            got=config.side,
        )
    return autoencoder, meta, digest


def curve(fit: SpaceFit) -> list[dict[str, Any]]:
    """The rows of the training's epochs so far; none for a pretrained autoencoder."""
    storage = _storage(fit)
    if fit.space.autoencoder.pretrained is not None or not storage.exists(HISTORY):
        return []
    return [json.loads(line) for line in storage.read(HISTORY).splitlines()]


def _storage(fit: SpaceFit) -> Storage:
    return Storage.open(fit.experiment.root).below(fit.autoencoder)


def _identity(fit: SpaceFit, thumbnails: Dataset) -> dict[str, Any]:
    return {**fit.training, "thumbnails": thumbnails.digest, "stl_ray": __version__}


def _train(fit: SpaceFit, thumbnails: Dataset) -> None:
    config = fit.space.autoencoder
    resources = fit.experiment.ray
    workers = Workers(
        config.workers,
        resources.cpus_per_actor,
        config.gpu,
        waits=resources.autoscaling,
        label_selector=resources.label_selector,
    )
    # Checked here too: Ray Train would start its workers three times before it gave up.
    split(thumbnails.rows, config, seed=fit.seed, world_size=config.workers)
    workers.trainings_at_once(fit.key("autoencoder.workers"))
    identity = _identity(fit, thumbnails)
    with JobProgress(fit.label("autoencoder"), thumbnails.rows * config.epochs) as progress:
        board = make_board()
        settings = {"fit": fit, "thumbnails": thumbnails, "identity": identity, "board": board}
        training = partial(
            ray_train.fit, _work, settings, workers, name="autoencoder", storage=_storage(fit), identity=identity
        )
        run_side_by_side([training], 1, board, progress)
        progress.complete()


def _work(settings: dict[str, Any]) -> None:
    """One Ray Train worker: trains its part of every batch; rank 0 keeps checkpoints and saves the best weights."""
    fit: SpaceFit = settings["fit"]
    config, storage = fit.space.autoencoder, _storage(fit)
    rank, world_size = rank_and_world_size()
    bind(fit.experiment.ray.cpus_per_actor)
    thumbnails, _ = load_thumbnails(settings["thumbnails"])
    autoencoder = new_autoencoder(config.side, seed=fit.seed).to(get_device())
    # Ray wraps the autoencoder in DistributedDataParallel; it declares no more than a Module.
    model: Any = prepare_model(autoencoder) if world_size > 1 else autoencoder
    state, rows = resume(storage, settings["identity"])
    if rank == 0:
        settings["board"].resume.remote("autoencoder", len(thumbnails) * len(rows))
    epochs = train_autoencoder(model, thumbnails, config, seed=fit.seed, rank=rank, world_size=world_size, state=state)
    for epoch in epochs:
        state = epoch.state()
        rows.append(epoch.row())
        if rank == 0:
            gain = epoch.psnr - epoch.noisy_psnr
            note = f"epoch {epoch.epoch}: loss {epoch.validation_loss:.4f}, denoising gains {gain:.2f} dB"
            settings["board"].reach.remote("autoencoder", len(thumbnails) * len(rows), note)
        report(state, rows, storage, settings["identity"])
    if rank == 0 and state is not None:
        _save(storage, state, rows, settings["identity"])


def _save(
    storage: Storage, state: Mapping[str, Tensor], rows: list[dict[str, Any]], identity: Mapping[str, Any]
) -> None:
    best = next(row for row in reversed(rows) if row["best"])
    figures = {key: best[key] for key in ("validation_loss", "psnr", "noisy_psnr")}
    meta = {"identity": dict(identity), "epochs": len(rows), "best_epoch": best["epoch"], **figures}
    save_autoencoder(storage.root, best_autoencoder(state), meta)

"""train: one classifier on the clean shards (vanilla), one on each defense's purified shards (retrained).

Every worker reads the shards itself, in an order of (seed, epoch): Ray Data would need CPUs of its own beside the
workers', and would cut the split to equal parts.
"""

import json
import os
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import train as ray_train
from ray.train.torch import TorchTrainer, get_device, prepare_model
from safetensors.torch import load_file, save_file

from stl_ray import __version__
from stl_ray.config import Experiment
from stl_ray.errors import TrainingError
from stl_ray.models import Classifier, build_classifier, load_weights, save_classifier
from stl_ray.stages.board import make_board, watch
from stl_ray.stages.inputs import dataset_of, make_defenses, run_of, with_solver
from stl_ray.stages.progress import JobProgress
from stl_ray.stages.project import identity_of as project_identity
from stl_ray.stages.records import class_names, load_images
from stl_ray.stages.session import require_places
from stl_ray.store import Layout, Storage, require_same
from stl_ray.store.filesystem import canonical_json
from stl_ray.store.layout import VANILLA
from stl_ray.store.shards import sha256
from stl_ray.training import train_classifier

_STATE = "state.safetensors"
_HISTORY = "metrics.jsonl"


@dataclass(frozen=True)
class Training:
    """One classifier to train: its name (`vanilla` or a defense's), folder, dataset and identity."""

    name: str
    folder: str
    dataset: str
    rows: int
    identity: dict[str, Any]

    @property
    def run_name(self) -> str:
        """Ray Train's name of the run; it carries the identity, so that other settings never resume these weights."""
        return f"{self.name}-{sha256(canonical_json(self.identity))[:12]}"


def run(experiment: Experiment) -> dict[str, Any]:
    """Train every classifier that is not there yet; the images of all datasets, counted.

    Raises:
        ConfigError: if the workers do not fit on the cluster.
        StorageError: if the given weights are not there.
        RunIdentityError: if a classifier is there that was trained otherwise.
        TrainingError: if the data cannot be trained on, or the loss is not finite.
    """
    experiment = with_solver(experiment)
    trainings = plan(experiment)
    config = experiment.train
    pending = [training for training in trainings if not _is_done(experiment, training)]
    epochs = max(config.epochs, 1)
    total, left = (sum(t.rows for t in some) * epochs for some in (trainings, pending))
    with JobProgress("train", total, done=total - left) as progress:
        if config.epochs == 0:
            for training in pending:
                _save(experiment, training, _classifier(experiment, training), [])
                progress.advance(training.rows)
        elif pending:
            _fit_all(experiment, pending, progress)
    return {"images": sum(training.rows for training in trainings)}


def plan(experiment: Experiment) -> list[Training]:
    """The classifiers of an experiment, each with its dataset."""
    layout = Layout(experiment.root)
    datasets = {VANILLA: layout.ingested("train")}
    if experiment.train.retrain:
        datasets |= {defense.name: layout.projected(defense.name, "train") for defense in experiment.defenses}
        clean = dataset_of(experiment.root, layout.ingested("train"))
        for name, defense in make_defenses(experiment).items():
            # The purified shards on disk must be those of the defense that the tables will name.
            run_of(experiment.root, datasets[name]).require(project_identity(defense, clean, "train"))
    weights = _weights_digest(experiment.train.weights)
    trainings = []
    for name, folder in datasets.items():
        dataset = dataset_of(experiment.root, folder)
        config = experiment.train.model_dump(mode="json", exclude={"retrain", "cpus_per_worker", "weights"})
        identity = {
            "train": config,
            "weights": weights,
            "seed": experiment.seed,
            "dataset": dataset.digest,
            "stl_ray": __version__,
        }
        trainings.append(Training(name, layout.classifier(name), folder, dataset.rows, identity))
    return trainings


def _weights_digest(path: str | None) -> str | None:
    if path is None:
        return None
    folder, _, name = path.rpartition("/")
    return sha256(Storage.open(folder).read(name))


def _is_done(experiment: Experiment, training: Training) -> bool:
    storage = Storage.open(experiment.root).below(training.folder)
    if not storage.exists("model.json"):
        return False
    require_same(storage.read_json("model.json")["meta"].get("identity", {}), training.identity, storage.root)
    return True


def _fit_all(experiment: Experiment, pending: list[Training], progress: JobProgress) -> None:
    """Train side by side as many classifiers as the cluster carries."""
    config = experiment.train
    fit = require_places(config.workers, cpus=config.cpus_per_worker, gpus=1 if config.gpu else 0, key="train.workers")
    at_once = fit // config.workers
    board = make_board()
    pool = ThreadPoolExecutor(min(at_once, len(pending)))
    futures: list[Future[None]] = [pool.submit(_fit, experiment, training, board) for training in pending]
    try:
        watch(board, progress, lambda: not wait(futures, timeout=0).not_done)
        for future in futures:
            future.result()
    finally:
        # An interrupt must not wait for the trainings that run, let alone for those that are queued.
        pool.shutdown(wait=False, cancel_futures=True)


def _fit(experiment: Experiment, training: Training, board: Any) -> None:
    config = experiment.train
    storage = Storage.open(experiment.root).below(training.folder)
    # A report waits for the controller's next look at its workers; every two seconds would stall short epochs.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"experiment": experiment, "training": training, "board": board},
        scaling_config=ray_train.ScalingConfig(
            num_workers=config.workers, use_gpu=config.gpu, resources_per_worker={"CPU": config.cpus_per_worker}
        ),
        run_config=ray_train.RunConfig(
            name=training.run_name,
            storage_path=str(storage.root / "checkpoints"),
            failure_config=ray_train.FailureConfig(max_failures=2),
            checkpoint_config=ray_train.CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        trainer.fit()
    except ray_train.TrainingFailedError as error:
        raise TrainingError(f"training failed ({_cause(error)})", item=training.name) from error


def _cause(error: Exception) -> str:
    """The last line of what the worker raised, which is its own message."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _worker(config: dict[str, Any]) -> None:
    """One Ray Train worker: trains its part of every batch, and as rank 0 keeps checkpoints and saves the model."""
    experiment: Experiment = config["experiment"]
    training: Training = config["training"]
    context = ray_train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(experiment.train.cpus_per_worker)
    images, labels, ids = load_images(dataset_of(experiment.root, training.dataset))
    classifier = _classifier(experiment, training).to(get_device())
    # Ray wraps the classifier in DistributedDataParallel; it declares no more than a Module.
    model: Any = prepare_model(classifier) if world_size > 1 else classifier
    state, history = _resume(ray_train.get_checkpoint())
    storage = Storage.open(experiment.root).below(training.folder)
    epochs = train_classifier(
        model,
        images,
        labels,
        ids,
        experiment.train,
        seed=experiment.seed,
        rank=rank,
        world_size=world_size,
        state=state,
    )
    if rank == 0 and history:
        config["board"].post.remote(len(ids) * len(history), "")
    for metrics in epochs:
        history.append(metrics.row())
        checkpoint = None
        with tempfile.TemporaryDirectory() as folder:
            if rank == 0:
                save_file(metrics.state(), Path(folder) / _STATE)
                Path(folder, _HISTORY).write_text(_lines(history), encoding="utf-8")
                storage.write(_HISTORY, _lines(history).encode())
                note = (
                    f"{training.name} epoch {metrics.epoch}: loss {metrics.loss:.3f}, accuracy {metrics.accuracy:.3f}"
                )
                config["board"].post.remote(len(ids), note)
                checkpoint = ray_train.Checkpoint.from_directory(folder)
            ray_train.report(metrics.row(), checkpoint=checkpoint)
    if rank == 0:
        _save(experiment, training, classifier, history)


def _resume(checkpoint: "ray_train.Checkpoint | None") -> tuple[dict[str, torch.Tensor] | None, list[dict[str, Any]]]:
    if checkpoint is None:
        return None, []
    with checkpoint.as_directory() as folder:
        lines = Path(folder, _HISTORY).read_text(encoding="utf-8").splitlines()
        return load_file(Path(folder) / _STATE), [json.loads(line) for line in lines]


def _classifier(experiment: Experiment, training: Training) -> Classifier:
    names = class_names(dataset_of(experiment.root, training.dataset))
    classifier = build_classifier(experiment.train.classifier, names, seed=experiment.seed)
    if experiment.train.weights is not None:
        load_weights(classifier, experiment.train.weights)
    return classifier


def _save(experiment: Experiment, training: Training, classifier: Classifier, history: list[dict[str, Any]]) -> None:
    meta = {"identity": training.identity, "trained_on": training.dataset, "metrics": history[-1] if history else {}}
    save_classifier(Layout(experiment.root).uri(training.folder), classifier, meta)


def _lines(history: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in history)

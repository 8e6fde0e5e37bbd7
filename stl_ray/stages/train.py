"""train: one classifier on the clean shards (vanilla), one on each defense's purified shards (retrained).

Every worker reads the shards itself, in an order of (seed, epoch): Ray Data would need CPUs of its own beside the
workers', and would cut the split to equal parts.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from ray.train.torch import get_device, prepare_model

from stl_ray import __version__
from stl_ray.config import Experiment
from stl_ray.models import Classifier, build_classifier, load_weights, save_classifier
from stl_ray.stages.board import make_board
from stl_ray.stages.inputs import dataset_of, make_defenses, run_of, with_solver
from stl_ray.stages.progress import JobProgress
from stl_ray.stages.project import identity_of as project_identity
from stl_ray.stages.records import class_names, load_images
from stl_ray.stages.trainer import Workers, fit, fit_all, place, report, resume
from stl_ray.store import Layout, Storage, require_same
from stl_ray.store.layout import VANILLA
from stl_ray.store.shards import sha256
from stl_ray.training import train_classifier


@dataclass(frozen=True)
class Training:
    """One classifier to train: name (`vanilla` or a defense's), folder, dataset, identity, and that of the defense."""

    name: str
    folder: str
    dataset: str
    rows: int
    identity: dict[str, Any]
    defense: dict[str, Any] | None


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
    pending = [training for training in trainings if not is_done(experiment, training)]
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
    defenses = {}
    if experiment.train.retrain:
        datasets |= {defense.name: layout.projected(defense.name, "train") for defense in experiment.defenses}
        clean = dataset_of(experiment.root, layout.ingested("train"))
        for name, defense in make_defenses(experiment).items():
            # The purified shards on disk must be those of the defense that the tables will name.
            run_of(experiment.root, datasets[name]).require(project_identity(defense, clean, "train"))
            defenses[name] = defense.identity()
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
        made_by = defenses.get(name)
        trainings.append(Training(name, layout.classifier(name), folder, dataset.rows, identity, made_by))
    return trainings


def _weights_digest(path: str | None) -> str | None:
    if path is None:
        return None
    folder, _, name = path.rpartition("/")
    return sha256(Storage.open(folder).read(name))


def is_done(experiment: Experiment, training: Training) -> bool:
    """Whether a classifier was trained; refuses one that was trained otherwise."""
    storage = Storage.open(experiment.root).below(training.folder)
    if not storage.exists("model.json"):
        return False
    require_same(storage.read_json("model.json")["meta"].get("identity", {}), training.identity, storage.root)
    return True


def _fit_all(experiment: Experiment, pending: list[Training], progress: JobProgress) -> None:
    """Train side by side as many classifiers as the cluster carries."""
    config = experiment.train
    workers = Workers(config.workers, config.cpus_per_worker, config.gpu)
    at_once = workers.trainings_at_once("train.workers")
    board = make_board()
    fits = [
        partial(
            fit,
            _work,
            {"experiment": experiment, "training": training, "board": board},
            workers,
            name=training.name,
        )
        for training in pending
    ]
    fit_all(fits, at_once, board, progress)


def _work(settings: dict[str, Any]) -> None:
    """One Ray Train worker: trains its part of every batch, and as rank 0 keeps checkpoints and saves the model."""
    experiment: Experiment = settings["experiment"]
    training: Training = settings["training"]
    rank, world_size = place()
    torch.set_num_threads(experiment.train.cpus_per_worker)
    images, labels, ids = load_images(dataset_of(experiment.root, training.dataset))
    classifier = _classifier(experiment, training).to(get_device())
    # Ray wraps the classifier in DistributedDataParallel; it declares no more than a Module.
    model: Any = prepare_model(classifier) if world_size > 1 else classifier
    storage = Storage.open(experiment.root).below(training.folder)
    state, history = resume(storage, training.identity)
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
        settings["board"].post.remote(len(ids) * len(history), "")
    for metrics in epochs:
        history.append(metrics.row())
        if rank == 0:
            note = f"{training.name} epoch {metrics.epoch}: loss {metrics.loss:.3f}, accuracy {metrics.accuracy:.3f}"
            settings["board"].post.remote(len(ids), note)
        report(metrics.state(), history, storage, training.identity)
    if rank == 0:
        _save(experiment, training, classifier, history)


def _classifier(experiment: Experiment, training: Training) -> Classifier:
    names = class_names(dataset_of(experiment.root, training.dataset))
    classifier = build_classifier(experiment.train.classifier, names, seed=experiment.seed)
    if experiment.train.weights is not None:
        load_weights(classifier, experiment.train.weights)
    return classifier


def _save(experiment: Experiment, training: Training, classifier: Classifier, history: list[dict[str, Any]]) -> None:
    meta = {
        "identity": training.identity,
        "trained_on": training.dataset,
        "defense": training.defense,
        "metrics": history[-1] if history else {},
    }
    save_classifier(Layout(experiment.root).uri(training.folder), classifier, meta)

"""train: one classifier on the clean shards (vanilla), one on each defense's purified shards (retrained).

Every worker reads the images itself, from a copy on its node, in an order of (seed, epoch): Ray Data would need CPUs of its
own beside the workers', and would cut the split to equal parts.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from ray.train.torch import get_device, prepare_model
from torch import Tensor

from stl_ray.config import Experiment
from stl_ray.defenses import Differentiable, identity_in_run
from stl_ray.models import Classifier, logits_of, save_classifier
from stl_ray.pipeline.classifiers import classifier_config
from stl_ray.pipeline.defenses import make_defenses, transformation
from stl_ray.pipeline.inputs import dataset_of, with_solver
from stl_ray.pipeline.look import device_to_look, look_at
from stl_ray.pipeline.train.plan import Training, network_of, new_classifier, plan, require_sound, source_of
from stl_ray.pipeline.train.tensorboard import EVENTS, event_file
from stl_ray.runtime.concurrency import bind
from stl_ray.runtime.progress import JobProgress
from stl_ray.runtime.progress_actor import make_board
from stl_ray.runtime.ray_train import (
    Workers,
    checkpoint_of,
    checkpoints,
    fit,
    leaving,
    rank_and_world_size,
    report,
    resume,
)
from stl_ray.runtime.side_by_side import run_side_by_side
from stl_ray.store import Dataset, Layout, Storage, require_planned, require_same
from stl_ray.store.lease import held
from stl_ray.text import plain
from stl_ray.training import (
    Callbacks,
    EpochMetrics,
    EpochProgress,
    Relabelled,
    Share,
    TrainingImages,
    balance,
    cached_images,
    class_counts,
    train_classifier,
    trained_weights,
)

BEST = "best"
"""Below a classifier's folder: that of the epoch with the best validation accuracy, which no table uses."""


def run(experiment: Experiment) -> dict[str, Any]:
    """Train every classifier that is to be and is not there yet; the count of the images of all datasets.

    Raises:
        ConfigError: if the workers do not fit on the cluster, or there are no such published weights.
        StorageError: if the given weights are not there.
        ArtifactError: if they do not fit the classifier and the number of classes.
        AuditError: if a dataset's manifest fails its audit.
        RunBusyError: if another driver is training one of them.
        RunIdentityError: if there is a classifier of another identity.
        TrainingError: if the data cannot be trained on, or the loss is not finite.
        StlRayError: if a defense that a training runs itself cannot do with the images.
    """
    experiment = with_solver(experiment)
    trainings = plan(experiment)
    if not trainings:
        return {"images": 0, "quarantined": 0, "summary": "no classifier is to be trained: all are used as they are"}
    storage = Storage.open(experiment.root)
    with held([storage.below(training.folder) for training in trainings]):
        _train(experiment, trainings)
    return {"images": sum(training.rows for training in trainings)}


def _train(experiment: Experiment, trainings: Sequence[Training]) -> None:
    pending = [training for training in trainings if not is_done(experiment, training)]
    for training in pending:
        require_sound(experiment, training)
        _tell_of_other_settings(experiment, training)
    _look(experiment, [training for training in pending if training.behind])
    total, left = (sum(t.rows * t.config.epochs for t in some) for some in (trainings, pending))
    with JobProgress("train", total, done=total - left) as progress:
        # Those that begin as another one wait for it.
        for wave in ([t for t in pending if t.start is None], [t for t in pending if t.start is not None]):
            if wave:
                _fit_all(experiment, wave, progress)


def _look(experiment: Experiment, behind: Sequence[Training]) -> None:
    """Look at the defenses that trainings run themselves; those whose images are stored were looked at before."""
    device = device_to_look(experiment.ray)
    if device is not None and behind:
        names = dict.fromkeys(training.retrained_for for training in behind if training.retrained_for is not None)
        defenses = make_defenses(experiment, device, names=names)
        images = dataset_of(experiment.root, behind[0].dataset)
        look_at({}, {name: (made, {}) for name, made in defenses.items()}, images, device)


def is_done(experiment: Experiment, training: Training) -> bool:
    """Whether a classifier was trained; refuses one of another identity."""
    storage = Storage.open(experiment.root).below(training.folder)
    if not storage.exists("model.json"):
        return False
    require_same(storage.read_json("model.json")["meta"].get("identity", {}), training.identity, storage.root)
    return True


def _tell_of_other_settings(experiment: Experiment, training: Training) -> None:
    """Warn of an unfinished training with other settings: it is left alone, and this one begins at its first epoch."""
    storage = Storage.open(experiment.root).below(training.folder)
    others = checkpoints(storage)
    if others and checkpoint_of(training.identity) not in others:
        warnings.warn(
            f"{plain(storage.root)}: a training with other settings was not finished here; this one does not go on from it, and "
            "begins at the first epoch",
            UserWarning,
            stacklevel=2,
        )


def workers_of(experiment: Experiment) -> Workers:
    """The workers of one training."""
    config, resources = experiment.train, experiment.ray
    return Workers(
        config.workers,
        config.cpus_per_worker,
        config.gpu,
        config.min_workers,
        resources.autoscaling,
        resources.label_selector,
    )


def _fit_all(experiment: Experiment, pending: list[Training], progress: JobProgress) -> None:
    """Train side by side as many classifiers as the cluster carries."""
    workers = workers_of(experiment)
    at_once = workers.trainings_at_once("train.workers")
    board = make_board()
    fits = [
        partial(
            fit,
            _work,
            {"experiment": experiment, "training": training, "board": board},
            workers,
            name=training.name,
            storage=Storage.open(experiment.root).below(training.folder),
            identity=training.identity,
        )
        for training in pending
    ]
    run_side_by_side(fits, at_once, board, progress)


def _work(settings: dict[str, Any]) -> None:
    """One Ray Train worker: trains its part of every batch, and as rank 0 keeps checkpoints and saves the model."""
    experiment: Experiment = settings["experiment"]
    training: Training = settings["training"]
    board, config = settings["board"], training.config
    rank, world_size = rank_and_world_size()
    bind(max(1, config.cpus_per_worker - config.loader_processes))
    torch.backends.cudnn.benchmark = config.gpu
    storage = Storage.open(experiment.root).below(training.folder)
    here = {"source": source_of(classifier_config(experiment, training.classifier))}
    require_planned({"source": training.identity["source"]}, here, training.folder)
    # The layout first: gradients are exchanged in the layout that the weights have when they are wrapped.
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    classifier = new_classifier(experiment, training).to(get_device()).to(memory_format=layout)
    # Ray wraps the classifier in DistributedDataParallel; it declares no more than a Module.
    model: Any = prepare_model(classifier) if world_size > 1 else classifier
    state, history = resume(storage, training.identity)
    accuracies = [row["validation_accuracy"] for row in history]
    best = max((accuracy for accuracy in accuracies if accuracy is not None), default=-1.0)
    with _images(experiment, training, classifier, board) as (images, validation):

        def reached(epoch: int, images_seen: int, note: str) -> None:
            if rank == 0:
                units = (epoch - 1) * training.rows + images_seen
                board.reach.remote(training.name, units, f"{training.name} {note}")

        def live(now: EpochProgress) -> None:
            reached(now.epoch, now.images, f"epoch {now.epoch}: {_figures(now.loss, now.accuracy, now.data_wait)}")

        counts = class_counts(images.labels, classifier.class_names)
        if rank == 0:
            note = f"{training.name} {balance(counts, classifier.class_names)}"
            board.resume.remote(training.name, len(history) * training.rows, note)
        epochs = train_classifier(
            model,
            images,
            config,
            seed=experiment.seed,
            validation=validation,
            input_transform=input_transform_of(experiment, training, str(get_device())),
            share=Share(rank, world_size),
            state=state,
            callbacks=Callbacks(live, leaving, lambda state: report(state, history, storage, training.identity)),
        )
        for epoch in epochs:
            state = epoch.state()
            history.append(epoch.row())
            reached(epoch.epoch, training.rows, _note(epoch))
            if rank == 0:
                storage.write(EVENTS, event_file(history))
                if epoch.validation_accuracy is not None and epoch.validation_accuracy > best:
                    best = epoch.validation_accuracy
                    _save_weights(experiment, training, state, history, counts, BEST)
            report(state, history, storage, training.identity)
        if rank == 0 and state is not None:
            _save_weights(experiment, training, state, history, counts)


@contextmanager
def _images(
    experiment: Experiment, training: Training, classifier: Classifier, board: Any
) -> Iterator[tuple[TrainingImages, TrainingImages | None]]:
    """The training and the validation images on this node, under the classifier's own classes."""
    with ExitStack() as stack:

        def open_images(folder: str) -> TrainingImages:
            dataset: Dataset = dataset_of(experiment.root, folder)

            def tell(images: int) -> None:
                board.post.remote(0, f"{training.name}: copying images to a node's disk, {images} of {dataset.rows}")

            images = stack.enter_context(cached_images(dataset, training.config.scratch, tell=tell))
            classes = logits_of(images.class_names, classifier.class_names, training.name)
            return Relabelled(images, torch.tensor(classes))

        validated = training.validation if training.config.validate_every else None
        yield open_images(training.dataset), open_images(validated) if validated is not None else None


def input_transform_of(experiment: Experiment, training: Training, device: str) -> Differentiable | None:
    """The defense in front of a classifier that is trained behind it; None for the others."""
    if training.retrained_for is None or not training.behind:
        return None
    (defense,) = make_defenses(experiment, device, names=[training.retrained_for]).values()
    require_planned(training.defense or {}, identity_in_run(defense, experiment.seed), training.folder)
    adversarial = training.config.adversarial
    through = adversarial is not None and adversarial.gradient == "exact"
    return transformation(defense).differentiable(defense.gradients[0] if through else "bpda")


def _figures(loss: float, accuracy: float, data_wait: float) -> str:
    return f"loss {loss:.3f}, accuracy {accuracy:.3f}, waiting for images {data_wait:.0%}"


def _note(epoch: EpochMetrics) -> str:
    note = f"epoch {epoch.epoch}: {_figures(epoch.loss, epoch.accuracy, epoch.data_wait)}"
    return note if epoch.validation_accuracy is None else f"{note}, validation {epoch.validation_accuracy:.3f}"


def _save_weights(
    experiment: Experiment,
    training: Training,
    state: Mapping[str, Tensor],
    history: list[dict[str, Any]],
    counts: list[int],
    below: str = "",
) -> None:
    classifier = network_of(experiment, training)
    classifier.backbone.load_state_dict(trained_weights(state))
    _save(experiment, training, classifier, history, counts, below)


def _save(
    experiment: Experiment,
    training: Training,
    classifier: Classifier,
    history: list[dict[str, Any]],
    counts: list[int] | None,
    below: str = "",
) -> None:
    meta = {
        "identity": training.identity,
        "config": training.config.model_dump(mode="json"),
        "trained_on": training.dataset,
        "validated_on": training.validation,
        "class_counts": counts,
        "defense": training.defense,
        "metrics": history[-1] if history else {},
    }
    folder = f"{training.folder}/{below}" if below else training.folder
    save_classifier(Layout(experiment.root).uri(folder), classifier, meta)

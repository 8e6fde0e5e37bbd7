"""The classifiers that an experiment trains, their datasets, and the checks before a worker starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stl_ray import __version__
from stl_ray.config import Experiment
from stl_ray.defenses import identity_in_run
from stl_ray.errors import RunIdentityError, TrainingError
from stl_ray.images import decode
from stl_ray.models import Classifier, build_classifier, check_weights, load_weights, weights_digest
from stl_ray.pipeline.batches import STORED_PIXELS, class_names, rows_at
from stl_ray.pipeline.inputs import dataset_of, make_defenses
from stl_ray.pipeline.project import identity_of as project_identity
from stl_ray.store import Layout, Run
from stl_ray.store.layout import VANILLA
from stl_ray.training import audited, require_parts, require_sizes

_WHERE = {"workers", "min_workers", "cpus_per_worker", "loaders", "scratch", "gpu", "compile"}  # where, and how fast
_NOT_IDENTITY = {"retrain", "validate_every", "weights"} | _WHERE


@dataclass(frozen=True)
class Training:
    """One classifier to train.

    Attributes:
        name: `vanilla` or a defense's.
        folder: of the classifier.
        dataset: folder of its images.
        validation: folder of the images that it is validated on; None: there are none behind this defense.
        rows: training images.
        identity: whatever can change its weights.
        defense: identity of the defense behind which it is to stand.
        behind: whether its images pass the defense during training, instead of before.
    """

    name: str
    folder: str
    dataset: str
    validation: str | None
    rows: int
    identity: dict[str, Any]
    defense: dict[str, Any] | None
    behind: bool


def plan(experiment: Experiment) -> list[Training]:
    """The classifiers of an experiment, each with its dataset."""
    layout, config = Layout(experiment.root), experiment.train
    clean = layout.ingested("train")
    weights = None if config.weights is None else weights_digest(config.classifier, config.weights)
    trainings = [_training(experiment, VANILLA, clean, layout.ingested("test"), weights, None, behind=False)]
    behind = config.projection == "on_the_fly"
    for name, defense in make_defenses(experiment).items() if config.retrain else ():
        made_by = identity_in_run(defense, experiment.seed)
        dataset = clean if behind else layout.projected(name, "train")
        validation = layout.ingested("test") if behind else _purified_test(experiment, name, made_by)
        if not behind:
            # The purified shards on disk must be those of the defense that the tables will name.
            required = project_identity(defense, dataset_of(experiment.root, clean), "train", experiment.seed)
            Run.open(experiment.root, dataset).require(required)
        trainings.append(_training(experiment, name, dataset, validation, weights, made_by, behind=behind))
    return trainings


def _training(
    experiment: Experiment,
    name: str,
    folder: str,
    validation: str | None,
    weights: str | None,
    defense: dict[str, Any] | None,
    *,
    behind: bool,
) -> Training:
    dataset = dataset_of(experiment.root, folder)
    identity = {
        "train": experiment.train.model_dump(mode="json", exclude=_NOT_IDENTITY),
        "weights": weights,
        "seed": experiment.seed,
        "dataset": dataset.digest,
        "stl_ray": __version__,
    }
    if behind:
        identity["defense"] = defense
    where = Layout(experiment.root).classifier(name)
    return Training(name, where, folder, validation, dataset.rows, identity, defense, behind)


def _purified_test(experiment: Experiment, name: str, made_by: Mapping[str, Any]) -> str | None:
    """The purified test images of a defense, if `project` made them with the settings at hand."""
    folder = Layout(experiment.root).projected(name, "test")
    run = Run.open(experiment.root, folder)
    if not run.storage.exists("MANIFEST.json"):
        return None
    try:
        run.require({"defense": made_by})
    except RunIdentityError:
        return None
    return folder


def require_sound(experiment: Experiment, training: Training) -> None:
    """Check datasets, weights and sizes of images before any worker starts.

    Raises:
        AuditError: if a dataset's manifest fails its audit.
        StorageError: if the given weights are not there.
        ArtifactError: if they do not fit the classifier and the number of classes.
        ConfigError: if there are no such published weights.
        TrainingError: if the network cannot take images of this size, or batches so small, or the validation images have other classes.
    """
    dataset = dataset_of(experiment.root, training.dataset)
    audited(dataset)
    if experiment.train.weights is not None:
        check_weights(experiment.train.classifier, experiment.train.weights)
    classifier = new_classifier(experiment, training)
    if experiment.train.epochs:
        (first,) = rows_at(dataset, [0])
        height, width, _ = decode(first["image"]["bytes"], max_pixels=STORED_PIXELS).shape
        require_sizes(classifier, experiment.train, (height, width))
        require_parts(classifier, experiment.train, (height, width), training.rows)
    if training.validation is not None and experiment.train.epochs and experiment.train.validate_every:
        validation = dataset_of(experiment.root, training.validation)
        audited(validation)
        names, others = class_names(dataset), class_names(validation)
        if names != others:
            raise TrainingError(
                "the validation images have other classes than the training images",
                item=validation.storage.root,
                expected=f"{len(names)} classes: {', '.join(names[:5])}{', ...' * (len(names) > 5)}",
                got=f"{len(others)}: {', '.join(others[:5])}{', ...' * (len(others) > 5)}",
            )


def new_classifier(experiment: Experiment, training: Training) -> Classifier:
    """The classifier as its training begins: with the given weights, or random ones.

    Raises:
        StorageError: if the given weights are not there.
        ArtifactError: if they do not fit the classifier and the number of classes.
    """
    names = class_names(dataset_of(experiment.root, training.dataset))
    classifier = build_classifier(experiment.train.classifier, names, seed=experiment.seed)
    if experiment.train.weights is not None:
        load_weights(classifier, experiment.train.weights)
    return classifier

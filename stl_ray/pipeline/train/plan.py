"""The classifiers that an experiment trains, their datasets, and the checks before a worker starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stl_ray import __version__
from stl_ray.config import SCRATCH, ClassifierConfig, Experiment, Recipe, Retraining, TrainConfig
from stl_ray.config.classifiers import is_function
from stl_ray.defenses import identity_in_run
from stl_ray.errors import ArtifactError, RunIdentityError, TrainingError
from stl_ray.images import decode
from stl_ray.models import Classifier, build_classifier, check_weights, module_digest, source_digest, weights_digest
from stl_ray.pipeline.batches import STORED_PIXELS, class_names, rows_at
from stl_ray.pipeline.classifiers import classifier_config, given, load_classifier, own_classes, trained_for
from stl_ray.pipeline.defenses import make_defenses, transformation
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.pipeline.project import identity_of as project_identity
from stl_ray.store import Layout, Run
from stl_ray.training import audited, require_parts, require_sizes


@dataclass(frozen=True)
class Training:
    """One classifier to train.

    Attributes:
        name: of the classifier's folder.
        classifier: its name in the experiment.
        retrained_for: name of the defense that it is retrained for; None: it is trained on clean images.
        config: its recipe, and where it is trained.
        folder: of the classifier.
        dataset: folder of its images.
        validation: folder of the images that it is validated on; None: there are none behind this defense.
        rows: training images.
        identity: whatever can change its weights.
        defense: identity of the defense behind which it is to stand.
        behind: whether its images pass the defense during training, instead of before.
        start: name of the classifier that it begins as; None: with weights that are given, or random ones.
    """

    name: str
    classifier: str
    retrained_for: str | None
    config: TrainConfig
    folder: str
    dataset: str
    validation: str | None
    rows: int
    identity: dict[str, Any]
    defense: dict[str, Any] | None
    behind: bool
    start: str | None


def plan(experiment: Experiment) -> list[Training]:
    """The classifiers that an experiment trains, each with its dataset; those that others begin as come first."""
    first = {item.name: _clean_training(experiment, item) for item in experiment.classifiers if item.trained}
    trainings = list(first.values())
    retrained = [
        (item, item.retrain, trained_for(experiment, item))
        for item in experiment.classifiers
        if item.retrain is not None
    ]
    awaited = {name for *_, names in retrained for name in names}
    defenses = make_defenses(experiment, names=[item.name for item in experiment.defenses if item.name in awaited])
    for item, retrain, names in retrained:
        for name, defense in defenses.items():
            if name in names:
                made_by = identity_in_run(defense, experiment.seed)
                if retrain.projection == "stored":
                    # The purified shards on disk must be those of the defense that the tables will name.
                    clean = dataset_of(experiment.root, Layout(experiment.root).ingested("train"))
                    required = project_identity(transformation(defense), clean, "train", experiment.seed)
                    Run.open(experiment.root, Layout(experiment.root).projected(name, "train")).require(required)
                trainings.append(_retraining(experiment, item, retrain, name, made_by, first))
    return trainings


def _clean_training(experiment: Experiment, item: ClassifierConfig) -> Training:
    layout = Layout(experiment.root)
    config = _config(experiment, item.recipe)
    clean, validation = layout.ingested("train"), _clean_test(experiment)
    weights = None if item.weights is None else weights_digest(item.architecture, item.weights)
    if weights is None and is_function(item.architecture):
        # Whatever it begins with, from a file that its module reads, for one.
        names = class_names(dataset_of(experiment.root, clean))
        weights = module_digest(given(item, names, experiment.seed).backbone)
    identity, rows = _identity(experiment, item, config, clean, weights)
    return Training(
        name=item.name, classifier=item.name, retrained_for=None, config=config, folder=layout.classifier(item.name),
        dataset=clean, validation=validation, rows=rows, identity=identity, defense=None, behind=False, start=None,
    )  # fmt: skip


def _retraining(
    experiment: Experiment,
    item: ClassifierConfig,
    retrain: Retraining,
    defense: str,
    made_by: dict[str, Any],
    first: Mapping[str, Training],
) -> Training:
    layout, config = Layout(experiment.root), _config(experiment, retrain)
    behind = retrain.projection == "on_the_fly"
    dataset = layout.ingested("train") if behind else layout.projected(defense, "train")
    validation = _clean_test(experiment) if behind else _purified_test(experiment, defense, made_by)
    start = None if retrain.start == SCRATCH else retrain.start
    begins: Any = None
    if start is not None and start in first:
        begins = first[start].identity
    elif start is not None:
        names = class_names(dataset_of(experiment.root, layout.ingested("train")))
        begins = load_classifier(experiment, start, None, names).identity
    identity, rows = _identity(experiment, item, config, dataset, begins)
    if behind:
        identity["defense"] = made_by
    folder = layout.classifier(item.name, defense)
    return Training(
        name=folder.partition("/")[2], classifier=item.name, retrained_for=defense, config=config, folder=folder,
        dataset=dataset, validation=validation, rows=rows, identity=identity, defense=made_by, behind=behind, start=start,
    )  # fmt: skip


def _config(experiment: Experiment, recipe: Recipe | None) -> TrainConfig:
    """The experiment's training with a classifier's own recipe."""
    if recipe is None:
        raise AssertionError("a classifier that is trained has a recipe")
    return experiment.train.model_copy(update={name: getattr(recipe, name) for name in Recipe.model_fields})


def _identity(
    experiment: Experiment, item: ClassifierConfig, config: TrainConfig, folder: str, begins: Any
) -> tuple[dict[str, Any], int]:
    """Whatever can change the weights, and the number of training images."""
    dataset = dataset_of(experiment.root, folder)
    identity = {
        "architecture": item.architecture,
        "source": source_of(item),
        "classes": list(own_classes(item, class_names(dataset))),
        "recipe": config.model_dump(mode="json", include=set(Recipe.model_fields)),
        "start": begins,
        "seed": experiment.seed,
        "dataset": dataset.digest,
        "stl_ray": __version__,
    }
    return identity, dataset.rows


def source_of(item: ClassifierConfig) -> dict[str, str] | None:
    """The digest of a user's own source by its reference, as it is found here; None for other architectures."""
    return {item.architecture: source_digest(item.architecture)} if is_function(item.architecture) else None


def _clean_test(experiment: Experiment) -> str | None:
    """The clean test images, where the experiment has any."""
    return None if experiment.ingest.test is None else Layout(experiment.root).ingested("test")


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
    config = training.config
    dataset = dataset_of(experiment.root, training.dataset)
    audited(dataset)
    item = classifier_config(experiment, training.classifier)
    if item.weights is not None:
        check_weights(item.architecture, item.weights)
    # What is to be trained first is there by then.
    waits = training.start is not None and classifier_config(experiment, training.start).trained
    classifier = network_of(experiment, training) if waits else new_classifier(experiment, training)
    (first,) = rows_at(dataset, [0])
    height, width, _ = decode(first["image"]["bytes"], max_pixels=STORED_PIXELS).shape
    require_sizes(classifier, config, (height, width))
    require_parts(classifier, config, (height, width), training.rows)
    if training.validation is not None and config.validate_every:
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


def network_of(experiment: Experiment, training: Training) -> Classifier:
    """The network of a training, with random weights."""
    item = classifier_config(experiment, training.classifier)
    return build_classifier(item.architecture, own_classes(item, _names(experiment, training)), seed=experiment.seed)


def new_classifier(experiment: Experiment, training: Training) -> Classifier:
    """The classifier as its training begins: with random weights, those that are given, or another classifier's.

    Raises:
        StorageError: if the given weights are not there.
        ArtifactError: if they do not fit the classifier and the number of classes, or the classifier that it begins as is
            another network, or has other classes.
        IncompleteRunError: if that one is not trained yet.
    """
    names = _names(experiment, training)
    if training.retrained_for is None:
        return given(classifier_config(experiment, training.classifier), names, experiment.seed)
    classifier = network_of(experiment, training)
    if training.start is not None:
        begun = load_classifier(experiment, training.start, None, names).classifier
        if (begun.architecture, begun.class_names) != (classifier.architecture, classifier.class_names):
            raise ArtifactError(
                "the classifier to begin with is another network, or has other classes", item=training.start,
                expected=f"{classifier.architecture} with {len(classifier.class_names)} classes",
                got=f"{begun.architecture} with {len(begun.class_names)}",
            )  # fmt: skip
        classifier.backbone.load_state_dict(begun.backbone.state_dict())
    return classifier


def _names(experiment: Experiment, training: Training) -> Sequence[str]:
    return class_names(dataset_of(experiment.root, training.dataset))

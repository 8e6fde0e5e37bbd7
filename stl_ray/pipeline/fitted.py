"""What the defenses of an experiment are fitted with: below its root, or elsewhere, where it is read in place."""

from dataclasses import dataclass
from typing import Any

from stl_ray.config import Experiment
from stl_ray.defenses import ArtifactRecipe, DefenseOptions, FittedOptions, options_of
from stl_ray.errors import IncompleteRunError
from stl_ray.pipeline.batches import class_names
from stl_ray.pipeline.classifiers import LoadedClassifier, load_classifier
from stl_ray.pipeline.inputs import training_images
from stl_ray.store import Layout, Storage, require_same
from stl_ray.store.filesystem import canonical_json
from stl_ray.store.runs import MANIFEST
from stl_ray.store.shards import sha256

_DIGITS = 8


@dataclass(frozen=True)
class ArtifactFit:
    """One artifact to make.

    Args:
        experiment: root, Ray resources, the seed and the quarantine limit.
        recipe: of the artifact.
        users: names of the defenses that it is for.
    """

    experiment: Experiment
    recipe: ArtifactRecipe
    users: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """Whatever decides the artifact, but for the training images and the version."""
        return {"recipe": self.recipe.model_dump(mode="json"), "seed": self.experiment.seed}

    @property
    def folder(self) -> str:
        """Its folder, relative to the root."""
        return Layout.artifact(self.recipe.kind, _key(self.settings))

    @property
    def storage(self) -> Storage:
        """The storage of its folder."""
        return Storage.open(self.experiment.root).below(self.folder)

    @property
    def made(self) -> bool:
        """Whether it is there."""
        return self.storage.exists(f"{self.recipe.kind}.json")

    @property
    def record(self) -> dict[str, Any]:
        """Whatever the artifact is made of.

        Raises:
            IncompleteRunError: the training split was not ingested.
        """
        name = self.recipe.looks_with
        looks = {} if name is None else {"classifier": looking(self.experiment, name).identity}
        return {**self.settings, "images": training_images(self.experiment).digest, **looks}

    def require(self) -> None:
        """Refuse the artifact that is there if it was made of something else.

        Raises:
            RunIdentityError: with the keys that differ.
        """
        made = self.storage.read_json(f"{self.recipe.kind}.json")["meta"]
        require_same({key: made.get(key) for key in self.record}, self.record, self.storage.root)

    def step(self, name: str, settings: object) -> str:
        """The folder of a step on the way to it, shared by those that agree on the settings."""
        return Layout.step(name, _key(settings))

    def label(self, step: str) -> str:
        """What is shown with a step's progress."""
        return f"fit {step} of {', '.join(self.users)}"


def artifacts_of(experiment: Experiment) -> list[ArtifactFit]:
    """What is to be fitted here for the defenses of an experiment, each once."""
    users: dict[str, list[str]] = {}
    fits: dict[str, ArtifactFit] = {}
    for item in experiment.defenses:
        options = options_of(item.defense, item.options)
        if isinstance(options, FittedOptions) and options.load is None:
            fit = ArtifactFit(experiment, options.recipe)
            fits[fit.folder] = fit
            users.setdefault(fit.folder, []).append(item.name)
    return [ArtifactFit(experiment, fit.recipe, tuple(users[folder])) for folder, fit in fits.items()]


def load_fitted(experiment: Experiment, options: DefenseOptions) -> Any:
    """The artifact of a defense, as it takes it.

    Raises:
        IncompleteRunError: if it was not made yet.
        RunIdentityError: if it was made of other images than the training split's, or with another classifier.
        ArtifactError: if it is unreadable, altered, or of another version.
    """
    if not isinstance(options, FittedOptions):
        raise AssertionError("only a defense that is fitted requires an artifact")
    if options.load is not None:
        return options.recipe.load(options.load)
    fit = ArtifactFit(experiment, options.recipe)
    if not fit.made:
        raise IncompleteRunError("there is no such artifact yet; run `stl-ray fit` first", item=fit.storage.root)
    images = Storage.open(experiment.root).below(Layout(experiment.root).ingested("train"))
    if images.exists(MANIFEST):
        fit.require()
    return options.recipe.load(fit.storage.root)


def looking(experiment: Experiment, name: str, device: str = "cpu") -> LoadedClassifier:
    """The classifier of that name.

    Raises:
        IncompleteRunError: the training split was not ingested.
        ArtifactError, StorageError: its weights are unreadable, or do not fit.
    """
    return load_classifier(experiment, name, None, class_names(training_images(experiment)), device)


def _key(settings: object) -> str:
    return sha256(canonical_json(settings))[:_DIGITS]

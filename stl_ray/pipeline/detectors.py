"""The calibrations of detectors: of every defense that refuses images, one with each classifier that it stands before. Artifacts.

Made once, by one Ray task, from training images; the digest is in the identity of every run that the detector has a say in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import RayTaskError
from torch import Tensor

from stl_ray.config import Experiment
from stl_ray.defenses import Calibration, Detecting
from stl_ray.errors import ArtifactError, IncompleteRunError, InputError, StlRayError, TrainingError
from stl_ray.evaluation import DefendedClassifier
from stl_ray.images import decode, to_tensor
from stl_ray.pipeline.batches import STORED_PIXELS, class_names, rows_by_id
from stl_ray.pipeline.classifiers import load_classifier
from stl_ray.pipeline.defenses import make_defenses
from stl_ray.pipeline.inputs import training_images
from stl_ray.runtime.concurrency import bind
from stl_ray.runtime.node_labels import placement
from stl_ray.runtime.progress import JobProgress
from stl_ray.runtime.session import device_of
from stl_ray.store import Artifact, Dataset, Layout, load_artifact, require_planned, require_same, save_artifact
from stl_ray.store.artifacts import artifact_digest

KIND, VERSION = "detector", 1


@dataclass(frozen=True)
class DetectorFit:
    """A detector to calibrate with one classifier of an experiment.

    Args:
        experiment: of the classifier and the defense.
        classifier: its name.
        retrained_for: the defense that the classifier was retrained for; None: as it is without.
        defense: name of the one that refuses images.
        identity: of the classifier, the defense and the detector.
    """

    experiment: Experiment
    classifier: str
    retrained_for: str | None
    defense: str
    identity: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        classifier: str,
        retrained_for: str | None,
        defense: str,
        defended: DefendedClassifier,
    ) -> "DetectorFit":
        """The detector of a defended classifier of the experiment, whose defense has one."""
        return cls(experiment, classifier, retrained_for, defense, _identity(defended))

    @property
    def folder(self) -> str:
        """Of its artifact, relative to the root."""
        return Layout(self.experiment.root).detector(self.classifier, self.retrained_for, self.defense)

    @property
    def made_of(self) -> dict[str, Any]:
        """Whatever can change the calibration.

        Raises:
            IncompleteRunError: the training split was not ingested.
        """
        return {**self.identity, "train": training_images(self.experiment).digest, "seed": self.experiment.seed}

    def stored(self) -> Artifact | None:
        """The calibration of these inputs, if it was made.

        Raises:
            IncompleteRunError: the training split was not ingested.
        """
        wanted = self.made_of
        try:
            artifact = load_artifact(Layout(self.experiment.root).uri(self.folder), KIND, VERSION)
        except ArtifactError:
            return None
        return artifact if artifact.meta["made_of"] == wanted else None

    def required(self) -> Artifact:
        """The calibration.

        Raises:
            IncompleteRunError: it was not made of these inputs, or the training split was not ingested.
        """
        artifact = self.stored()
        if artifact is None:
            raise IncompleteRunError("the detector is not calibrated, or to something else", item=self.folder)
        return artifact

    def make(self, stored: str | None) -> str:
        """Make the calibration unless there is one of these inputs; returns its digest. Needs Ray.

        Args:
            stored: the digest that a run in its folder was made with; None: there is no run.

        Raises:
            IncompleteRunError: the training split was not ingested.
            RunIdentityError: the run was made with another calibration; nothing is written.
            TrainingError, InputError: the training images do not do.
        """
        existing = self.stored()
        if existing is not None:
            return existing.digest
        resources = self.experiment.ray
        task = ray.remote(num_cpus=resources.cpus_per_actor, num_gpus=resources.gpus_per_actor, **placement(resources))(
            calibrate
        )
        with JobProgress(f"calibrate {self.folder}", 1, unit="detectors") as progress:
            try:
                arrays, images = ray.get(task.remote(self, None))
            except RayTaskError as error:
                raise (error.cause if isinstance(error.cause, StlRayError) else error) from None
            progress.advance(1)
        meta = {"made_of": self.made_of, "images": images}
        digest = artifact_digest(KIND, VERSION, arrays, meta)
        if stored is not None:
            require_same({"detector": stored}, {"detector": digest}, self.folder)
        return save_artifact(Layout(self.experiment.root).uri(self.folder), KIND, VERSION, arrays, meta)

    def attached(self, defended: DefendedClassifier, stand_in: Calibration | None = None) -> DefendedClassifier:
        """A defended classifier with its detector, where that is calibrated; else as it is, on which nothing may be judged."""
        if not isinstance(defended.defense, Detecting):
            return defended
        if stand_in is None and (artifact := self.stored()) is not None:
            stand_in = artifact.arrays
        if stand_in is None:
            return defended
        return replace(defended, detector=defended.defense.detector(defended.classifier, stand_in))


def calibrate(fit: DetectorFit, most: int | None) -> tuple[dict[str, np.ndarray[Any, Any]], int]:
    """A calibration, and the number of its images. Nothing is written.

    Args:
        fit: what is calibrated.
        most: images, for an estimate; None: all that the defense chooses.

    Raises:
        TrainingError, InputError: the training images do not do.
    """
    experiment = fit.experiment
    bind(experiment.ray.cpus_per_actor)
    device, train = device_of(experiment.ray), training_images(experiment)
    defense = make_defenses(experiment, device, names=[fit.defense])[fit.defense]
    loaded = load_classifier(experiment, fit.classifier, fit.retrained_for, class_names(train), device)
    defended = DefendedClassifier.of(defense, loaded.classifier, loaded.identity, experiment.seed)
    require_planned(fit.identity, _identity(defended), fit.folder)
    if not isinstance(defense, Detecting):
        raise AssertionError(f"{fit.defense} has no detector")
    images, labels, ids = images_for(defense, train, experiment.seed, most)
    classes = loaded.classes[labels.clamp_min(0).to(device)].where(labels.to(device) >= 0, -1)
    found = defense.calibrate(loaded.classifier, images.to(device), classes, ids, experiment.seed)
    return {name: np.asarray(array) for name, array in found.items()}, len(ids)


def _identity(defended: DefendedClassifier) -> dict[str, Any]:
    if not isinstance(defended.defense, Detecting):
        raise AssertionError(f"{defended.defense.name} has no detector")
    return {**defended.identity, "detector": defended.defense.detector_identity()}


def images_for(
    defense: Detecting, train: Dataset, seed: int, most: int | None = None
) -> tuple[Tensor, Tensor, Sequence[str]]:
    """The training images that a detector is calibrated on: (N, 3, H, W), labels (N,) as they are stored, ids.

    Raises:
        TrainingError: there is none.
        InputError: they have several sizes.
    """
    ids: list[str] = train.column("id")
    chosen = defense.chosen(ids, seed)[:most]
    if not chosen:
        raise TrainingError("no training image to calibrate a detector on", item=train.storage.root)
    rows = rows_by_id(train, chosen)
    pixels = [decode(rows[identifier]["image"]["bytes"], max_pixels=STORED_PIXELS) for identifier in chosen]
    if len({image.shape for image in pixels}) != 1:
        raise InputError("a detector needs training images of one size; set ingest.size", item=train.storage.root)
    return to_tensor(pixels), torch.tensor([rows[identifier]["label"] for identifier in chosen]), chosen

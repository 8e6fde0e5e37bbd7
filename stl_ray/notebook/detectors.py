"""Detectors, calibrated on the caller's training images as the job `evaluate` does on those of an experiment."""

from dataclasses import replace

import torch

from stl_ray.defenses import Detecting
from stl_ray.errors import ConfigError, TensorError
from stl_ray.evaluation import DefendedClassifier
from stl_ray.images import pixel_digest, to_tensor
from stl_ray.notebook.inputs import Images, stored_images

_TRAINING = "training=(images, labels), images that are not scored, or with their ids (images, labels, ids)"


def training_images(given: object) -> Images:
    """The argument `training` of `stl_ray.evaluate`.

    Raises:
        TensorError: it is no pair or triple, or as for `stored_images`.
    """
    if not isinstance(given, tuple) or len(given) not in (2, 3):
        raise TensorError("not training images", item="training", expected=_TRAINING, got=type(given).__name__)
    return stored_images(*given)


def shared_with(training: Images | None, scored: Images) -> tuple[str, ...]:
    """A remark on training images that are scored too, which flatters a detector; none where there is none."""
    if training is None:
        return ()
    learned = {*map(pixel_digest, training.pixels)}
    count = sum(pixel_digest(pixels) in learned for pixels in scored.pixels)
    return (f"{count} of {len(scored.pixels)} images are among the training images, pixel by pixel",) if count else ()


def with_detector(name: str, defended: DefendedClassifier, training: Images | None) -> DefendedClassifier:
    """A defended classifier with its detector, where its defense has one.

    Raises:
        ConfigError: there are no training images.
        TensorError: they have several sizes.
        TrainingError: they do not do.
    """
    defense = defended.defense
    if not isinstance(defense, Detecting):
        return defended
    if training is None:
        without = ", or options: {'refuse': False}" if defense.name == "magnet" else ""
        raise ConfigError("its detector is calibrated on training images", item=name, expected=f"{_TRAINING}{without}")
    place = {identifier: position for position, identifier in enumerate(training.ids)}
    chosen = [place[identifier] for identifier in defense.chosen(training.ids, defended.seed)]
    pixels = [training.pixels[position] for position in chosen]
    if len({image.shape for image in pixels}) != 1:
        raise TensorError("a detector needs images of one size", item="training", got="several")
    device = training.device
    calibration = defense.calibrate(
        defended.classifier,
        to_tensor(pixels).to(device),
        torch.from_numpy(training.labels[chosen]).to(device),
        [training.ids[position] for position in chosen],
        defended.seed,
    )
    return replace(defended, detector=defense.detector(defended.classifier, calibration))

"""The classifier that an adversarial set is crafted on: one of the experiment's, any other, alone or behind a defense."""

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn

from stl_ray.config import AttackedConfig, Experiment
from stl_ray.errors import ConfigError
from stl_ray.evaluation import DefendedClassifier
from stl_ray.models import Classifier, Victim, build_classifier, check_classifier, load_weights, module_digest
from stl_ray.options import nearest, require_known
from stl_ray.pipeline.defended import load_defense
from stl_ray.pipeline.inputs import classifier_of
from stl_ray.store.layout import VANILLA


class Attacked(NamedTuple):
    """A victim and whatever can change its answers."""

    victim: Victim
    identity: Any  # JSON-able; the digest alone for a classifier of the experiment without defense
    class_names: tuple[str, ...]


def attacked_of(experiment: Experiment, config: AttackedConfig, names: Sequence[str], device: str = "cpu") -> Attacked:
    """The victim of an adversarial set.

    Args:
        experiment: where classifiers and defenses are.
        config: which of them.
        names: the classes of the images, which a classifier from elsewhere is taken to answer in this order.
        device: to load it to.

    Raises:
        IncompleteRunError: if the classifier or the space was not made yet.
        ConfigError: if the classifier, its function or the defense is unknown.
    """
    check_target(experiment, config)
    classifier, identity = _classifier_of(experiment, config, names, device)
    if config.defense is None:
        return Attacked(classifier, identity, tuple(classifier.class_names))
    defense = load_defense(experiment, config.defense, device)
    victim = DefendedClassifier.of(defense, classifier, identity, experiment.seed).victim(
        config.gradient, config.samples
    )
    made_of = {
        "gradient": config.gradient,
        "samples": victim.samples,
        "defense": defense.identity(),
        "classifier": identity,
    }
    return Attacked(victim, made_of, tuple(classifier.class_names))


def check_target(experiment: Experiment, config: AttackedConfig) -> None:
    """Refuse names that `attacked_of` would refuse; nothing is loaded.

    Raises:
        ConfigError: if the classifier or the defense is unknown, with the nearest name that exists.
    """
    name, defenses = config.classifier, [item.name for item in experiment.defenses]
    if config.defense is not None:
        require_known(config.defense, defenses, kind="defense of this experiment")
    if ":" in name:
        return
    if config.weights is not None:
        check_classifier(name)
    elif name not in (VANILLA, *defenses):
        expected = f"{nearest(name, (VANILLA, *defenses))}, module:function, or weights for an architecture"
        raise ConfigError("unknown classifier to attack", item=name, expected=expected)


def _classifier_of(
    experiment: Experiment, config: AttackedConfig, names: Sequence[str], device: str
) -> tuple[Classifier, Any]:
    name = config.classifier
    if ":" in name:
        module = _called(name).to(device).eval()
        classifier = Classifier(
            module, architecture=name, class_names=names, mean=(0.0,) * 3, std=(1.0,) * 3, channels_last=False
        )
        return classifier.to(device).eval(), {"function": name, "weights": module_digest(module)}
    if config.weights is not None:
        built = build_classifier(name, names, seed=experiment.seed)
        load_weights(built, config.weights)
        return built.to(device).eval(), {"architecture": name, "weights": module_digest(built)}
    return classifier_of(experiment.root, name, device)


def _called(reference: str) -> nn.Module:
    """What `module:function` returns, a torch module on [0, 1] images.

    Raises:
        ConfigError: if it cannot be imported or returns something else.
    """
    module_name, _, function = reference.partition(":")
    try:
        make = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot be imported ({error})", item=reference, expected="module:function") from error
    module = make()
    if not isinstance(module, nn.Module):
        raise ConfigError("not a torch module", item=reference, expected="torch.nn.Module", got=type(module).__name__)
    return module

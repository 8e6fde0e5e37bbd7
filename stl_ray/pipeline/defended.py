"""Defenses with the classifiers behind them, as every job loads them."""

from stl_ray.config import Experiment
from stl_ray.defenses import Defense, make_defense
from stl_ray.evaluation import UNDEFENDED, DefendedClassifier
from stl_ray.options import named
from stl_ray.pipeline.inputs import classifier_of, make_defenses
from stl_ray.store.layout import VANILLA


def load_defended(experiment: Experiment, device: str, root: str | None = None) -> dict[str, DefendedClassifier]:
    """Every defense of an experiment by its name, "none" first, with its retrained classifier, else the vanilla one.

    Args:
        experiment: which defenses there are, and whether they have classifiers of their own.
        device: to load them to.
        root: of another finished experiment that spaces and classifiers are read from.

    Raises:
        IncompleteRunError: if a space or a classifier is not there yet.
    """
    located = experiment if root is None else experiment.model_copy(update={"root": root})
    defenses = {UNDEFENDED: make_defense(UNDEFENDED, {}, {}), **make_defenses(located, device)}
    return {
        name: DefendedClassifier.of(
            defense, *classifier_of(located.root, retrained_name(experiment, name), device), experiment.seed
        )
        for name, defense in defenses.items()
    }


def load_defense(experiment: Experiment, name: str, device: str) -> Defense:
    """One defense of an experiment.

    Raises:
        ConfigError: if the experiment has no defense of that name.
        IncompleteRunError: if what it requires was not made yet.
    """
    chosen = named({item.name: item for item in experiment.defenses}, name, kind="defense of this experiment")
    return make_defenses(experiment.model_copy(update={"defenses": (chosen,)}), device)[name]


def retrained_name(experiment: Experiment, defense: str) -> str:
    """The classifier that is deployed behind a defense: its own, and the vanilla one without defense or retraining."""
    return defense if defense != UNDEFENDED and experiment.train.retrain else VANILLA

"""Defenses with the classifiers behind them, as every job loads them."""

from dataclasses import dataclass
from typing import Any, Literal

from stl_ray.config import Experiment
from stl_ray.defenses import Defended, Defense, identity_in_run, make_defense
from stl_ray.evaluation import UNDEFENDED
from stl_ray.models import Classifier, Victim
from stl_ray.options import named
from stl_ray.pipeline.inputs import classifier_of, make_defenses, recorded
from stl_ray.store.layout import VANILLA


@dataclass(frozen=True)
class DefendedClassifier:
    """A defense with a classifier behind it, and whatever can change their answers in a run.

    Attributes:
        defense: in front.
        classifier: behind it.
        identity: of both, JSON-able: `defense` and `classifier`.
        seed: the run seed, of a randomised defense's draws.
    """

    defense: Defense
    classifier: Victim
    identity: dict[str, Any]
    seed: int

    @classmethod
    def of(cls, defense: Defense, classifier: Classifier, digest: Any, seed: int) -> "DefendedClassifier":
        """The pair in a run of that seed.

        Args:
            defense: in front.
            classifier: behind it.
            digest: the classifier's identity, JSON-able.
            seed: the run seed.
        """
        return cls(defense, classifier, {"defense": identity_in_run(defense, seed), "classifier": digest}, seed)

    def victim(self, gradient: Literal["exact", "bpda", "none"], samples: int = 1) -> Defended:
        """The pair as a victim; only a randomised defense is drawn more than once."""
        draws = samples if self.defense.randomised else 1
        return Defended(self.classifier, self.defense, gradient, samples=draws, seed=self.seed)

    @property
    def strongest(self) -> Literal["exact", "bpda"]:
        """The best gradient that the defense has."""
        return "exact" if "exact" in self.defense.gradients else "bpda"


def load_defended(experiment: Experiment, device: str, root: str | None = None) -> dict[str, DefendedClassifier]:
    """Every defense of an experiment by its name, "none" first, with its retrained classifier, else the vanilla one.

    Args:
        experiment: which defenses there are, and whether they have classifiers of their own.
        device: to load them to.
        root: of another finished experiment, whose classifiers and spaces, those of the same names, are taken.

    Raises:
        IncompleteRunError: if a space or a classifier is not there yet.
    """
    located = experiment
    if root is not None:
        other = recorded(root)
        located = experiment.model_copy(update={"root": root, "spaces": other.spaces, "seed": other.seed})
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

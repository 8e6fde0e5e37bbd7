"""A defense with a classifier behind it, as attacks, tables and checks take it."""

import math
from dataclasses import dataclass
from typing import Any

from stl_ray.config import Gradient
from stl_ray.defenses import Defended, Defense, Detector, identity_in_run
from stl_ray.models import Victim


@dataclass(frozen=True)
class DefendedClassifier:
    """A defense with a classifier behind it, and whatever can change their answers in a run.

    Attributes:
        defense: in front.
        classifier: behind it.
        identity: of both, JSON-able: `defense` and `classifier`.
        seed: the run seed, of a randomised defense's draws.
        detector: of a defense that also refuses images, calibrated on the classifier.
    """

    defense: Defense
    classifier: Victim
    identity: dict[str, Any]
    seed: int
    detector: Detector | None = None

    @classmethod
    def of(cls, defense: Defense, classifier: Victim, digest: Any, seed: int) -> "DefendedClassifier":
        """The pair in a run of that seed.

        Args:
            defense: in front.
            classifier: behind it.
            digest: the classifier's identity, JSON-able.
            seed: the run seed.

        Raises:
            ConfigError: the defense cannot do with this classifier.
        """
        defense.network(classifier, ())  # of no images: before any work
        return cls(defense, classifier, {"defense": identity_in_run(defense, seed), "classifier": digest}, seed)

    def victim(self, gradient: Gradient, samples: int = 1) -> Defended:
        """The pair as a victim; only a randomised defense is drawn more than once, and views that are alike are samples."""
        draws = math.ceil(samples / self.defense.repeats) if self.defense.randomised else 1
        return Defended(self.classifier, self.defense, gradient, samples=draws, seed=self.seed, detector=self.detector)

    @property
    def strongest(self) -> Gradient:
        """The best gradient that the defense has."""
        return self.defense.gradients[0]

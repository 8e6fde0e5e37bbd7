"""Every attack as this package and its peers run it, as contestants that return adversarial images.

ART's DeepFool and C&W are left out: they go image by image, and take more than ten times as long as any other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stl_ray.attacks import Budget, make_attack
from stl_ray.models import Classifier

Run = Callable[[Tensor, Tensor, int], Tensor]
"""(images, labels, seed) -> adversarial images; (B, 3, H, W) in [0, 1] and (B,)."""


class Match(NamedTuple):
    """One attack: its budget, and who runs it."""

    name: str
    setting: str
    budget: Budget
    minimum_norm: bool
    contestants: dict[str, Run]


def matches(classifier: Classifier) -> list[Match]:
    """The attacks that are compared, cheap ones first."""
    rounded = Budget(kind="l2", size=0.2)
    near = Budget(kind="linf", size=1 / 255)
    wide = Budget(kind="linf", size=8 / 255)
    free = Budget(kind="l2", size=50.0)
    fool, torches, art = Foolbox(classifier), Torchattacks(classifier), Art(classifier)
    return [
        Match("BIM", "10 steps, L2 0.2", rounded, False, {
            "stl-ray": ours(classifier, "bim", rounded),
            "Foolbox": fool.run("L2BasicIterativeAttack", rounded, steps=10, random_start=False),
            "torchattacks": torches.run("PGDL2", eps=rounded.size, alpha=0.04, steps=10, random_start=False),
            "ART": art.run("ProjectedGradientDescent", rounded, eps_step=0.04, max_iter=10, num_random_init=0),
        }),
        Match("DeepFool", "at most 50 steps, 10 classes, L2", free, True, {
            "stl-ray": ours(classifier, "deepfool", free),
            "Foolbox": fool.run("L2DeepFoolAttack", None),
            "torchattacks": torches.run("DeepFool", steps=50, overshoot=0.02),
        }),
        Match("APGD-CE", "50 steps, L_inf 1/255", near, False, {
            "stl-ray": ours(classifier, "apgd", near, steps=50),
            "torchattacks": torches.run("APGD", norm="Linf", eps=near.size, steps=50, n_restarts=1),
            "ART": art.run("AutoProjectedGradientDescent", near, eps_step=2 * near.size, max_iter=50, nb_random_init=1,
                           loss_type="cross_entropy"),
        }),
        Match("APGD-T", "20 steps, 9 targets, L_inf 1/255", near, False, {
            "stl-ray": ours(classifier, "apgd_t", near, steps=20),
            "torchattacks": torches.run("APGDT", norm="Linf", eps=near.size, steps=20, n_restarts=1, n_classes=10),
        }),
        Match("Square", "200 queries, L_inf 8/255", wide, False, {
            "stl-ray": ours(classifier, "square", wide, queries=200),
            "torchattacks": torches.run("Square", norm="Linf", eps=wide.size, n_queries=200, n_restarts=1,
                                        loss="margin"),
            "ART": art.run("SquareAttack", wide, max_iter=200, nb_restarts=1),
        }),
        Match("FAB-T", "20 steps, 3 targets, L2", free, True, {
            "stl-ray": ours(classifier, "fab_t", free, steps=20, targets=3, until_within=True),
            "torchattacks": torches.run("FAB", norm="L2", eps=1e3, steps=20, n_restarts=1,
                                        multi_targeted=True, n_classes=4),
        }),
        Match("C&W L2", "9 searches of at most 100 steps", free, True, {
            "stl-ray": ours(classifier, "cw", free, steps=100),
            "Foolbox": fool.run("L2CarliniWagnerAttack", None, steps=100),
        }),
    ]  # fmt: skip


def ours(classifier: Classifier, name: str, budget: Budget, **options: Any) -> Run:
    """An attack of this package, float32."""
    attack = make_attack(name, options)

    def run(images: Tensor, labels: Tensor, seed: int) -> Tensor:
        ids = [str(index) for index in range(len(images))]
        return attack(classifier, images, labels, budget=budget, ids=ids, seed=seed, store="f32").images

    return run


@dataclass
class Foolbox:
    """Foolbox's attacks on a classifier."""

    classifier: Classifier

    def run(self, method: str, budget: Budget | None, **options: Any) -> Run:
        """An attack, at a budget or for the nearest image."""
        epsilon = {} if budget is None else {"epsilon": budget.size}

        def run(images: Tensor, labels: Tensor, seed: int) -> Tensor:
            import foolbox

            model = foolbox.PyTorchModel(self.classifier, bounds=(0, 1), device="cpu")  # type: ignore[attr-defined]
            criterion = foolbox.criteria.Misclassification(labels)
            found: Tensor = getattr(foolbox.attacks, method)(**options).run(model, images, criterion, **epsilon)
            return found

        return run


@dataclass
class Torchattacks:
    """Torchattacks' attacks on a classifier."""

    classifier: Classifier

    def run(self, method: str, **options: Any) -> Run:
        """An attack."""

        def run(images: Tensor, labels: Tensor, seed: int) -> Tensor:
            import torchattacks

            attack = getattr(torchattacks, method)(self.classifier, **options)
            attack.seed = seed
            found: Tensor = attack(images, labels)
            return found.detach()

        return run


@dataclass
class Art:
    """ART's attacks on a classifier."""

    classifier: Classifier

    def run(self, method: str, budget: Budget, **options: Any) -> Run:
        """An attack at a budget."""
        norm = np.inf if budget.norm == "linf" else 2

        def run(images: Tensor, labels: Tensor, seed: int) -> Tensor:
            from art.attacks import evasion

            attack = getattr(evasion, method)(
                self._estimator(), norm=norm, eps=budget.size, batch_size=64, verbose=False, **options
            )
            with _numpy_seeded(seed):
                return torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))

        return run

    def universal(self, images: Tensor, radius: float, seed: int) -> Tensor:
        """The universal vector (3, 32, 32) of an L2 norm, from DeepFool's on training images (B, 3, 32, 32)."""
        from art.attacks.evasion import UniversalPerturbation

        attack = UniversalPerturbation(
            self._estimator(),
            attacker="deepfool",
            attacker_params={"max_iter": 10, "verbose": False},
            max_iter=1,
            eps=radius,
            norm=2,
            verbose=False,
        )
        with _numpy_seeded(seed):
            attack.generate(images.numpy())
        return torch.from_numpy(np.asarray(attack.noise, dtype=np.float32)).reshape(3, 32, 32)

    def _estimator(self) -> Any:
        """The classifier as ART sees it."""
        from art.estimators.classification import PyTorchClassifier

        return PyTorchClassifier(
            self.classifier,
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=(3, 32, 32),
            nb_classes=10,
            clip_values=(0, 1),
            device_type="cpu",
        )


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """NumPy's global stream, from which ART draws, begun from a seed for the time of the block."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002

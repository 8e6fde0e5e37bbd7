"""Every attack as this package and its peers run it, as contestants that return adversarial images.

ART's DeepFool and C&W are left out: they go image by image, and take more than ten times as long as any other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stl_ray.attacks import Budget, make_attack
from stl_ray.models import Classifier

Run = Callable[[Tensor, Tensor], Tensor]
"""(images, labels) -> adversarial images, all (B, 3, H, W) in [0, 1] or (B,)."""


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
    fool, torches, art = _Foolbox(classifier), _Torchattacks(classifier), _Art(classifier)
    return [
        Match("BIM", "10 steps, L2 0.2", rounded, False, {
            "stl-ray": _ours(classifier, "bim", rounded),
            "Foolbox": fool.run("L2BasicIterativeAttack", rounded, steps=10, random_start=False),
            "torchattacks": torches.run("PGDL2", eps=rounded.size, alpha=0.04, steps=10, random_start=False),
            "ART": art.run("ProjectedGradientDescent", rounded, eps_step=0.04, max_iter=10, num_random_init=0),
        }),
        Match("DeepFool", "at most 50 steps, 10 classes, L2", free, True, {
            "stl-ray": _ours(classifier, "deepfool", free),
            "Foolbox": fool.run("L2DeepFoolAttack", None),
            "torchattacks": torches.run("DeepFool", steps=50, overshoot=0.02),
        }),
        Match("APGD-CE", "50 steps, L_inf 1/255", near, False, {
            "stl-ray": _ours(classifier, "apgd", near, steps=50),
            "torchattacks": torches.run("APGD", norm="Linf", eps=near.size, steps=50, n_restarts=1, seed=0),
            "ART": art.run("AutoProjectedGradientDescent", near, eps_step=2 * near.size, max_iter=50, nb_random_init=1,
                           loss_type="cross_entropy"),
        }),
        Match("APGD-T", "20 steps, 9 targets, L_inf 1/255", near, False, {
            "stl-ray": _ours(classifier, "apgd_t", near, steps=20),
            "torchattacks": torches.run("APGDT", norm="Linf", eps=near.size, steps=20, n_restarts=1, seed=0,
                                        n_classes=10),
        }),
        Match("Square", "200 queries, L_inf 8/255", wide, False, {
            "stl-ray": _ours(classifier, "square", wide, queries=200),
            "torchattacks": torches.run("Square", norm="Linf", eps=wide.size, n_queries=200, n_restarts=1, seed=0,
                                        loss="margin"),
            "ART": art.run("SquareAttack", wide, max_iter=200, nb_restarts=1),
        }),
        Match("FAB-T", "20 steps, 3 targets, L2", free, True, {
            "stl-ray": _ours(classifier, "fab_t", free, steps=20, targets=3, until_within=True),
            "torchattacks": torches.run("FAB", norm="L2", eps=1e3, steps=20, n_restarts=1, seed=0,
                                        multi_targeted=True, n_classes=4),
        }),
        Match("C&W L2", "9 searches of at most 100 steps", free, True, {
            "stl-ray": _ours(classifier, "cw", free, steps=100),
            "Foolbox": fool.run("L2CarliniWagnerAttack", None, steps=100),
        }),
    ]  # fmt: skip


def _ours(classifier: Classifier, name: str, budget: Budget, **options: Any) -> Run:
    attack = make_attack(name, options)

    def run(images: Tensor, labels: Tensor) -> Tensor:
        ids = [str(index) for index in range(len(images))]
        return attack(classifier, images, labels, budget=budget, ids=ids, seed=0, store="f32").images

    return run


class _Foolbox:
    def __init__(self, classifier: Classifier) -> None:
        import foolbox

        self._library = foolbox
        self._model = foolbox.PyTorchModel(classifier, bounds=(0, 1), device="cpu")

    def run(self, method: str, budget: Budget | None, **options: Any) -> Run:
        attack = getattr(self._library.attacks, method)(**options)
        epsilon = {} if budget is None else {"epsilon": budget.size}

        def run(images: Tensor, labels: Tensor) -> Tensor:
            criterion = self._library.criteria.Misclassification(labels)
            return attack.run(self._model, images, criterion, **epsilon)

        return run


class _Torchattacks:
    def __init__(self, classifier: Classifier) -> None:
        import torchattacks

        self._library, self._classifier = torchattacks, classifier

    def run(self, method: str, **options: Any) -> Run:
        attack = getattr(self._library, method)(self._classifier, **options)
        return lambda images, labels: attack(images, labels).detach()


class _Art:
    def __init__(self, classifier: Classifier) -> None:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        self._attacks = evasion
        self._model = PyTorchClassifier(
            classifier,
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=(3, 32, 32),
            nb_classes=10,
            clip_values=(0, 1),
            device_type="cpu",
        )

    def run(self, method: str, budget: Budget, **options: Any) -> Run:
        norm = np.inf if budget.norm == "linf" else 2
        attack = getattr(self._attacks, method)(
            self._model, norm=norm, eps=budget.size, batch_size=64, verbose=False, **options
        )
        return lambda images, labels: torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))

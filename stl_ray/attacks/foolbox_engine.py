"""Foolbox's attacks behind the interface of native attacks: the same budgets, storage and measurements.

Every image goes to Foolbox alone, because several of Foolbox's attacks stop by sums over the batch. Foolbox draws from
the global random states; these are seeded per image and restored afterwards. Source: Rauber et al. 2020, the optional
package `foolbox`.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stl_ray.attacks.base import Attack
from stl_ray.attacks.budget import Budget, Norm, Store
from stl_ray.attacks.formulations import FixedBudget, MinimumNorm
from stl_ray.attacks.problem import Problem
from stl_ray.config.base import OptionValue
from stl_ray.errors import ConfigError
from stl_ray.models import Victim
from stl_ray.options import nearest


def foolbox_attack(name: str, options: Mapping[str, object]) -> Attack:
    """A Foolbox attack by class name, with the constructor's arguments as options.

    Raises:
        ConfigError: if Foolbox is not installed or has no such attack in L2 or L_inf, or if the options do not fit.
    """
    try:
        import foolbox
    except ImportError as error:
        raise ConfigError("foolbox is not installed", item=name, expected="pip install 'stl-ray[foolbox]'") from error
    known = {
        key: value
        for key, value in vars(foolbox.attacks).items()
        if inspect.isclass(value)
        and issubclass(value, (foolbox.attacks.base.FixedEpsilonAttack, foolbox.attacks.base.MinimizationAttack))
        and not inspect.isabstract(value)
        and (_norm_of(value) is not None or "constraint" in inspect.signature(value).parameters)
    }
    if name not in known:
        raise ConfigError("foolbox has no such attack", item=name, expected=nearest(name, known))
    fixed = issubclass(known[name], foolbox.attacks.base.FixedEpsilonAttack)
    accepted = inspect.signature(known[name]).parameters
    wrong = sorted(options.keys() - accepted.keys())
    if wrong:
        raise ConfigError("unknown option", item=f"{name}.{wrong[0]}", expected=nearest(wrong[0], accepted))
    try:
        norm = _norm_of(known[name](**options))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"wrong options ({error})", item=name, got=dict(options)) from error
    if norm is None:
        raise ConfigError("the attack measures neither l2 nor linf", item=name, got=dict(options))
    formulation = FoolboxFixedBudget if fixed else FoolboxMinimumNorm
    return formulation.model_validate({"method": name, "arguments": dict(options), "norm": norm})


class FoolboxMinimumNorm(MinimumNorm):
    """A minimum-norm attack from Foolbox."""

    needs_gradient = False  # not of all

    method: str
    arguments: dict[str, OptionValue]
    norm: Norm

    def check(self, budget: Budget, store: Store) -> None:
        """See `Attack.check`."""
        super().check(budget, store)
        _check_norm(self.method, self.norm, budget.norm)

    def search(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `MinimumNorm.search`."""
        return _one_by_one(problem, lambda model, image, label, radius: _run(self, model, image, label, None))


class FoolboxFixedBudget(FixedBudget):
    """A fixed-budget attack from Foolbox."""

    needs_gradient = False  # not of all

    method: str
    arguments: dict[str, OptionValue]
    norm: Norm

    def check(self, budget: Budget, store: Store) -> None:
        """See `Attack.check`."""
        super().check(budget, store)
        _check_norm(self.method, self.norm, budget.norm)

    def craft(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `FixedBudget.craft`."""
        adversarial, queries = _one_by_one(
            problem, lambda model, image, label, radius: _run(self, model, image, label, radius)
        )
        return adversarial - problem.images, queries


def _check_norm(method: str, supported: Norm, norm: Norm) -> None:
    if supported != norm:
        raise ConfigError("the attack does not support the norm", item=method, expected=supported, got=norm)


def _norm_of(attack: Any) -> Norm | None:
    """Norm of a Foolbox attack; None for other distances."""
    distance = getattr(attack, "distance", None)
    p = getattr(distance, "p", None)
    return "l2" if p == 2 else "linf" if p == float("inf") else None


def _run(
    attack: "FoolboxMinimumNorm | FoolboxFixedBudget",
    model: "_Module",
    image: Tensor,
    label: Tensor,
    radius: float | None,
) -> Tensor:
    import foolbox

    method = getattr(foolbox.attacks, attack.method)(**attack.arguments)
    peer = foolbox.models.pytorch.PyTorchModel(model, bounds=(0, 1), device=image.device)
    criterion = foolbox.criteria.Misclassification(label[None])
    try:
        ball = {} if radius is None else {"epsilon": radius}
        adversarial: Tensor = method.run(peer, image[None], criterion, **ball)[0]
    except ValueError as error:
        if "init_attack failed" not in str(error):
            raise
        return image  # a decision-based attack found no starting point
    return adversarial.detach()


def _one_by_one(problem: Problem, run: Callable[["_Module", Tensor, Tensor, float], Tensor]) -> tuple[Tensor, Tensor]:
    """Foolbox's result for each correctly classified image, and the passes through the victim."""
    correct = problem.looped(lambda tile: (tile.victim.logits(tile.images).argmax(dim=1) == tile.labels,))[0]
    adversarial, queries = problem.images.clone(), torch.ones_like(problem.labels)
    for row in correct.nonzero()[:, 0].tolist():
        model = _Module(problem.rows(torch.tensor([row])).recorded().victim).eval()
        with _seeded(int(problem.seeds[row])):
            result = run(model, problem.images[row], problem.labels[row], float(problem.radius[row]))
        adversarial[row] = result.clamp(0, 1)
        queries[row] += model.passes
    return adversarial, queries


class _Module(nn.Module):
    """A victim as a torch module, for one image."""

    def __init__(self, victim: Victim) -> None:
        super().__init__()
        self.victim = victim
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        if images.requires_grad:
            logits: Tensor = _Logits.apply(images, self.victim)
            return logits
        return self.victim.logits(images)


class _Logits(torch.autograd.Function):
    """Logits whose backward pass is the victim's vector-Jacobian product."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, victim: Victim) -> Tensor:
        ctx.images, ctx.victim = images.detach(), victim
        return victim.logits(ctx.images)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.victim.logits_and_vjp(ctx.images, lambda logits: grads[0])[1], None


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global random states of torch and numpy, and restore them afterwards."""
    before = np.random.get_state()  # noqa: NPY002 - Foolbox draws from it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002

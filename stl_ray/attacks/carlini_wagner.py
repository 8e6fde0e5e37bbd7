"""Carlini and Wagner's L2 attack: ||x' - x||^2 + c max(0, margin + confidence) by Adam in tanh space, c by bisection.

Source: Carlini, Wagner 2017, section V and the released defaults; the bisection is of the logarithm of c. Every image
has its own c, Adam moments and early abort; a boundary search toward the clean image follows. c has the inverse unit of
the logits: logits times s want `initial_c` / s, and the search, tenfold per value of c, bridges the decades between.
"""

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.attacks.boundary_search import bisect_boundary
from stl_ray.attacks.early_stopping import State, run_until_done
from stl_ray.attacks.formulations import MinimumNorm
from stl_ray.attacks.geometry import per_image
from stl_ray.attacks.losses import margin
from stl_ray.attacks.problem import Problem
from stl_ray.metrics import l2_norm

_INSIDE = 0.999999  # factor toward grey: at black and white the gradient of tanh vanishes
_FALL = 0.99  # largest share of the loss that may remain after a tenth of the steps
_BETA1, _BETA2, _TINY = 0.9, 0.999, 1e-8  # Adam's


class CarliniWagner(MinimumNorm):
    """C&W in L2."""

    norms = frozenset({"l2"})

    binary_search_steps: int = Field(9, ge=1, description="values of c per image")
    steps: int = Field(1000, ge=1, description="largest number of Adam steps per value of c")
    step_size: float = Field(0.01, gt=0, description="Adam's learning rate, in tanh space")
    initial_c: float = Field(1e-3, gt=0, description="initial weight of the margin; tenfold until an attack succeeds")
    confidence: float = Field(0.0, ge=0, description="margin of logits that misclassification must exceed")
    abort_early: bool = Field(
        True, description="end the search at one c if a tenth of the steps lowered the loss by less than 1 %"
    )

    def search(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `MinimumNorm.search`."""
        state = run_until_done(problem, self._start, self._step, self.binary_search_steps * self.steps)
        adversarial = torch.where(per_image(state["norm"] < torch.inf), state["best"], problem.images)
        nearest, queries = bisect_boundary(problem, adversarial, self.confidence)
        return nearest, state["queries"] + queries

    def _start(self, tile: Problem) -> State:
        logits = tile.victim.logits(tile.images)
        count = len(tile.images)
        zeros, integers = tile.images.new_zeros(count), torch.zeros_like(tile.labels)
        return {
            "done": (logits.argmax(dim=1) != tile.labels) | (logits.shape[1] == 1),
            "w": ((2 * tile.images - 1) * _INSIDE).atanh(),
            "first": torch.zeros_like(tile.images),
            "second": torch.zeros_like(tile.images),
            "c": zeros + self.initial_c,
            "low": zeros,
            "high": zeros + torch.inf,
            "searches": integers,
            "step": integers,
            "succeeded": zeros.bool(),
            "lowest": zeros + torch.inf,
            "checked": zeros + torch.inf,
            "best": tile.images.clone(),
            "norm": zeros + torch.inf,
            "queries": integers + 1,
        }

    def _step(self, tile: Problem, state: State, number: int) -> State:
        origin = ((2 * tile.images - 1) * _INSIDE).atanh()
        reconstructed = origin.tanh() / 2 + 0.5
        hyperbolic = state["w"].tanh()
        current = hyperbolic / 2 + 0.5

        def cotangent(logits: Tensor) -> Tensor:
            true = tile.labels[:, None]
            other = logits.scatter(1, true, -torch.inf).argmax(dim=1, keepdim=True)
            weight = (margin(logits, tile.labels) < self.confidence).to(logits)[:, None] * state["c"][:, None]
            return torch.zeros_like(logits).scatter(1, true, weight).scatter_add(1, other, -weight)

        logits, slope = tile.victim.logits_and_vjp(current, cotangent)
        short = (self.confidence - margin(logits, tile.labels)).clamp(min=0)
        change = current - reconstructed
        loss = change.flatten(1).square().sum(dim=1) + state["c"] * short
        misclassified = logits.argmax(dim=1) != tile.labels
        success = misclassified & (short == 0) if self.confidence else misclassified
        distance = l2_norm(current - tile.images)
        closer = success & (distance < state["norm"])
        gradient = (slope + 2 * change) * (1 - hyperbolic.square()) / 2
        state = {
            **state,
            "queries": state["queries"] + 1,
            "succeeded": state["succeeded"] | success,
            "best": torch.where(per_image(closer), current, state["best"]),
            "norm": torch.where(closer, distance, state["norm"]),
        }
        return self._next_search(origin, loss, self._adam(state, gradient))

    def _adam(self, state: State, gradient: Tensor) -> State:
        step = state["step"] + 1
        first = _BETA1 * state["first"] + (1 - _BETA1) * gradient
        second = _BETA2 * state["second"] + (1 - _BETA2) * gradient.square()
        unbiased = first / per_image(1 - _BETA1 ** step.float())
        scale = (second / per_image(1 - _BETA2 ** step.float())).sqrt() + _TINY
        return {
            **state,
            "step": step,
            "first": first,
            "second": second,
            "w": state["w"] - self.step_size * unbiased / scale,
        }

    def _next_search(self, origin: Tensor, loss: Tensor, state: State) -> State:
        """Start the search at the next c for images whose search has ended."""
        step, checked = state["step"], state["checked"]
        lowest = torch.minimum(loss, state["lowest"])  # Adam's loss is not monotone
        ended = step >= self.steps
        if self.abort_early:
            check = step % max(self.steps // 10, 1) == 1
            ended = ended | (check & (lowest > _FALL * checked))
            checked = torch.where(check, lowest, checked)
        c, succeeded = state["c"], state["succeeded"]
        high = torch.where(ended & succeeded, c, state["high"])
        low = torch.where(ended & ~succeeded, c, state["low"])
        c = torch.where(ended, torch.where(high.isinf(), 10 * c, _between(low, high)), c)
        searches = state["searches"] + ended.long()
        fresh = per_image(ended)
        return {
            **state,
            "done": searches >= self.binary_search_steps,
            "searches": searches,
            "c": c,
            "low": low,
            "high": high,
            "step": torch.where(ended, 0, step),
            "succeeded": succeeded & ~ended,
            "lowest": torch.where(ended, torch.inf, lowest),
            "checked": torch.where(ended, torch.inf, checked),
            "w": torch.where(fresh, origin, state["w"]),
            "first": torch.where(fresh, 0, state["first"]),
            "second": torch.where(fresh, 0, state["second"]),
        }


def _between(low: Tensor, high: Tensor) -> Tensor:
    """Geometric mean of the bounds, because c varies over orders of magnitude; a tenth of the upper bound if lower = 0."""
    return torch.where(low > 0, (low * high).sqrt(), high / 10)

"""DeepFool: steps to the nearest boundary of a linear model of the logits until one is crossed.

Source: Moosavi-Dezfooli et al. 2016, algorithm 2 and its L_inf variant; the likeliest classes only, as Foolbox does.
"""

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.attacks.early_stopping import State, run_until_done
from stl_ray.attacks.formulations import MinimumNorm
from stl_ray.attacks.geometry import per_image, rescaled
from stl_ray.attacks.linear_boundaries import likeliest_other_classes, logit_differences, nearest_boundary
from stl_ray.attacks.problem import Problem

_PUSH = 1e-4  # added to every distance, so that the step crosses the boundary


class DeepFool(MinimumNorm):
    """DeepFool in L2 or L_inf; an image stops once it is misclassified."""

    steps: int = Field(50, ge=1, description="largest number of steps")
    candidates: int = Field(
        10, ge=2, description="likeliest classes of the clean image that are considered, the predicted class included"
    )
    overshoot: float = Field(
        0.02, ge=0, description="share by which the perturbation is lengthened to cross the boundary"
    )

    def search(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `MinimumNorm.search`."""
        state = run_until_done(problem, self._start, self._step, self.steps)
        nearest = torch.where(per_image(state["crossed"]), state["current"], problem.images)
        return nearest, state["queries"]

    def _start(self, tile: Problem) -> State:
        logits = tile.victim.logits(tile.images)
        others = likeliest_other_classes(logits, tile.labels, self.candidates - 1)
        done = (logits.argmax(dim=1) != tile.labels) | (others.shape[1] == 0)
        return {
            "done": done,
            "crossed": torch.zeros_like(done),
            "current": tile.images.clone(),
            "change": torch.zeros_like(tile.images),
            "others": others,
            "queries": torch.ones_like(tile.labels),
        }

    def _step(self, tile: Problem, state: State, number: int) -> State:
        values, gradients = logit_differences(tile.victim, state["current"], tile.labels, state["others"])
        distance, _, gradient = nearest_boundary(values, gradients, tile.norm)
        length = torch.where(distance < torch.inf, distance, 0) + _PUSH
        step = rescaled(gradient, length) if tile.norm == "l2" else gradient.sign() * per_image(length)
        change = state["change"] + step
        current = (tile.images + (1 + self.overshoot) * change).clamp(0, 1)
        crossed = tile.victim.logits(current).argmax(dim=1) != tile.labels
        queries = state["queries"] + 1 + state["others"].shape[1]
        return {**state, "done": crossed, "crossed": crossed, "current": current, "change": change, "queries": queries}

"""What stands between an image and a verdict: the row of a table.

The kinds of defenses differ in what they declare:

transformation    an image in, the image that the classifier sees out; deterministic, or drawn by the image's seed
                  (`Transformation`); what it needs may be fitted to training images (`defenses/options.py`)
ensemble          several views of an image, each a transformation; one verdict from the mean of their softmaxes
wrapped network   the image as it is; another network in the classifier's place (`Defense.network`)
detecting         one of these with one view, and a detector that refuses images (`defenses/detector.py`)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.autograd import Function

from stl_ray.config import Gradient
from stl_ray.defenses.purified import Purified
from stl_ray.errors import GradientError, TensorError
from stl_ray.images import quantize
from stl_ray.models import Victim
from stl_ray.options import nearest
from stl_ray.seeding import seeds_of

Pullback = Callable[[Tensor], Tensor]
"""v (B, 3, H, W) -> J^T v (B, 3, H, W), J the Jacobian of a transformation at the images it was last given."""

Linearised = Callable[[Tensor, Sequence[int]], tuple[Tensor, Pullback]]
"""(images, seeds), as `Transformation.purify` takes them -> the images behind it, and the product with its Jacobian."""

Differentiable = Callable[[Tensor, Sequence[int]], Tensor]
"""(images, seeds), as `Transformation.purify` takes them -> the images behind it, as a node of torch's graph."""


class Defense(ABC):
    """A defense of any kind."""

    name: str
    """The defense's name in the registry."""

    iterative: bool = False
    """Whether it solves a problem for every image: a solve can start where another one ended, and be certified."""

    routes: int = 0
    """Number of routes that an image can take through the defense (`Purified.cluster`); 0: there is one for all."""

    @property
    @abstractmethod
    def views(self) -> "tuple[Transformation, ...]":
        """The transformations whose images the network sees; of several, the verdict is that of the mean softmax."""

    @property
    def repeats(self) -> int:
        """How often each draw is among the views, as samples of one expectation: 1 where no two views are alike."""
        return 1

    @property
    def randomised(self) -> bool:
        """Whether it draws random numbers, every image's from the seed given for it."""
        return any(view.randomised for view in self.views)

    @property
    def gradients(self) -> tuple[Gradient, ...]:
        """The modes that its views can be differentiated in, the strongest first: exact where all of them have it.

        Where some have a better one than the identity, stand_in is of each view the strongest.
        """
        strongest = {view.gradients[0] for view in self.views}
        if strongest == {"exact"}:
            return ("exact", "bpda")
        return ("bpda",) if strongest == {"bpda"} else ("stand_in", "bpda")

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything but the seeds that can change a byte of the output, JSON-able."""

    def network(self, classifier: Victim, seeds: Sequence[int], view: int = 0) -> Victim:
        """The network that sees the purified images of one view: the classifier itself, unless the defense changes it.

        Args:
            classifier: that is defended.
            seeds: per-image seeds (B,) of the view, for a network that draws; it is for these B images in these rows.
            view: its number among `views`.
        """
        return classifier

    def certified(self) -> "Defense":
        """The same defense with its solves certified, for finite differences; itself where nothing is solved."""
        return self

    def routed_to(self, route: int) -> "Defense":
        """The defense with one route for every image, for attacks that suppose another route than the predicted one.

        Raises:
            TensorError: there is no such route.
        """
        require_route(self, route)
        return self


class Transformation(Defense):
    """A defense that transforms the image in front of the classifier, which stays as it is."""

    randomised: bool = False
    gradients: tuple[Gradient, ...] = ("bpda",)

    @property
    def views(self) -> "tuple[Transformation, ...]":
        """Itself."""
        return (self,)

    @abstractmethod
    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """Transform every image on its own; the result does not depend on its batch mates.

        Args:
            images: (B, 3, H, W) float32 RGB in [0, 1] on the 8-bit grid, B >= 1.
            seeds: per-image seeds (B,); ignored by deterministic transformations.
            exclude: the images' ids, for images that the defense was fitted on and must not recognise.

        Raises:
            TensorError: if the images have another shape or range.
        """

    def linearised(self, gradient: Gradient) -> Linearised:
        """T with the product of its Jacobian, for one loop of calls on the same items in the same rows.

        Each image's solve may start where its solve in the call before ended.

        Args:
            gradient: "exact"; "stand_in": the Jacobian of a differentiable approximation in its place, of which nothing
                else is taken; or "bpda": the identity there (Athalye et al. 2018).

        Raises:
            GradientError: the mode is none of `gradients`.
        """
        require_gradient(self, gradient)
        return lambda images, seeds: (self.purify(images, seeds=seeds).images, lambda v: v)

    def differentiable(self, gradient: Gradient) -> Differentiable:
        """T as a function that torch differentiates in a mode of `linearised`, every call from a cold start.

        Raises:
            GradientError: the mode is none of `gradients`.
        """
        require_gradient(self, gradient)

        def through(images: Tensor, seeds: Sequence[int]) -> Tensor:
            output: Tensor = _Through.apply(images, self.linearised(gradient), seeds)
            return output

        return through

    def certified(self) -> "Transformation":
        """See `Defense.certified`."""
        return self


class _Through(Function):
    """A linearised transformation as a node of torch's graph."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, linearised: Linearised, seeds: Sequence[int]) -> Tensor:
        purified, ctx.pullback = linearised(images.detach(), seeds)
        return purified.clone()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        return ctx.pullback(cotangents[0]), None, None


def gradient_of_view(view: Transformation, gradient: Gradient) -> Gradient:
    """How a view is differentiated in a mode of its defense: by its strongest gradient in `stand_in`, else in the same mode."""
    return view.gradients[0] if gradient == "stand_in" else gradient


def require_gradient(defense: Defense, gradient: Gradient) -> None:
    """Refuse a gradient that the defense does not have.

    Raises:
        GradientError: names the gradients that it has.
    """
    if gradient not in defense.gradients:
        expected = nearest(gradient, defense.gradients)
        raise GradientError("no such gradient of the defense", item=defense.name, expected=expected, got=gradient)


def require_route(defense: Defense, route: int) -> None:
    """Refuse a route that the defense does not have.

    Raises:
        TensorError: gives the number of its routes.
    """
    if not 0 <= route < defense.routes:
        expected = f"one of {defense.routes}"
        raise TensorError("no such route through the defense", item=defense.name, expected=expected, got=route)


def deployed(defense: Transformation, images: Tensor, seeds: Sequence[int]) -> Tensor:
    """q8(T(q8(x))): the (B, 3, H, W) images that are stored behind the defense and that a classifier sees."""
    return quantize(defense.purify(quantize(images), seeds=seeds).images)


def deployed_seeds(run_seed: int, ids: Sequence[str]) -> list[int]:
    """The seeds (B,) of the draw that a run stores, judges and shows: the same wherever an image of that id occurs."""
    return seeds_of(run_seed, ids, "defense draw")


def identity_in_run(defense: Defense, run_seed: int) -> dict[str, Any]:
    """The identity of a defense in a run: its own, and the run's seed where it draws random numbers."""
    identity = defense.identity()
    return {**identity, "run_seed": run_seed} if defense.randomised else identity

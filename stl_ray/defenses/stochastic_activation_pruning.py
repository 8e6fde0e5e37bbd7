"""SAP, stochastic activation pruning. Source: Dhillon et al. 2018 (arXiv:1803.01442), section 3, and the authors' notebook.

Behind every ReLU of the classifier some activations are set to zero at random, and the others grow (`activation_pruning`
has the equation). The answer is the mean softmax of `passes` passes: views that show the image as it is to networks with
draws of their own. The figures of the paper are of 100 passes and as many draws as a layer has activations.

A network is pruned as it runs and stays as it is: whatever calls torch's relu is, as a module or a function.

Athalye et al. 2018 broke another thing under this name, and so did Table 4 of Sun et al. 2019: their `sap_model.py` prunes
what every convolution answers, which has signs and is not yet normalised, keeps each value on its own, with twice as many
draws in mind, and asks one pass: `{where: convolution, draws: 2.0, passes: 1}`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.overrides import TorchFunctionMode

from stl_ray.defenses.activation_pruning import prune, prune_each
from stl_ray.defenses.base import Defense, Transformation
from stl_ray.defenses.options import DefenseOptions
from stl_ray.defenses.undefended import Undefended
from stl_ray.errors import ConfigError, TensorError
from stl_ray.models import Victim


class PruningOptions(DefenseOptions):
    """The options of sap."""

    passes: int = Field(
        100, ge=1, le=1000, description="passes whose softmaxes are averaged, each with draws of its own"
    )
    draws: float = Field(1.0, gt=0, description="draws from a layer, as a share of its activations")
    where: Literal["relu", "convolution"] = Field(
        "relu", description="relu: the paper's, behind every ReLU; convolution: as Athalye et al. 2018 wrote it, whose figure is "
        "commonly cited (with draws 2.0 and passes 1)"
    )  # fmt: skip


@dataclass(frozen=True)
class StochasticActivationPruning(Defense):
    """A classifier with its activations pruned at random."""

    options: PruningOptions
    name = "sap"

    @property
    def views(self) -> tuple[Transformation, ...]:
        """The image as it is, once for every pass."""
        return (Undefended(),) * self.options.passes

    @property
    def repeats(self) -> int:
        """See `Defense.repeats`: the passes."""
        return self.options.passes

    @property
    def randomised(self) -> bool:
        """See `Defense.randomised`; here the network draws."""
        return True

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, **self.options.model_dump()}

    def network(self, classifier: Victim, seeds: Sequence[int], view: int = 0) -> "PrunedNetwork":
        """One pass; see `Defense.network`."""
        return PrunedNetwork(classifier, seeds, self.options)


@dataclass(frozen=True)
class PrunedNetwork:
    """A classifier in one pass with its activations pruned, for images with these seeds in these rows; a `Victim`.

    Args:
        classifier: is left as it is.
        seeds: per-image seeds (B,).
        options: as above; of the passes this is one.
    """

    classifier: Victim
    seeds: Sequence[int]
    options: PruningOptions

    def logits(self, images: Tensor) -> Tensor:
        """See `Victim`.

        Raises:
            TensorError: there is another number of images than of seeds.
            ConfigError: the classifier has nothing to prune.
        """
        with self._pruning(images):
            return self.classifier.logits(images)

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Logits and product of the network with what was drawn held; see `Victim`.

        Raises:
            TensorError, ConfigError: as `logits`.
        """
        with self._pruning(images):
            return self.classifier.logits_and_vjp(images, cotangent)

    @contextmanager
    def _pruning(self, images: Tensor) -> Iterator[None]:
        if len(images) != len(self.seeds):
            raise TensorError("every image has a seed of its own", expected=len(self.seeds), got=len(images))
        pruning = _Pruning(self.options, [torch.Generator().manual_seed(seed) for seed in self.seeds])
        with pruning:
            yield
        if pruning.layers == 0:
            function = "relu" if self.options.where == "relu" else "conv2d"
            raise ConfigError(
                "the classifier has nothing to prune", item="sap", expected=f"a network that calls torch's {function}",
                got="one that does not (other activations, such as ReLU6, or compiled?)",
            )  # fmt: skip


class _Pruning(TorchFunctionMode):
    """Where it is entered, what torch's functions answer is pruned."""

    def __init__(self, options: PruningOptions, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.layers = 0
        self._options = options
        self._generators = generators

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """`func`, which torch was asked for; see `TorchFunctionMode`."""
        kwargs = kwargs or {}
        if func not in (_RELUS if self._options.where == "relu" else _CONVOLUTIONS):
            return func(*args, **kwargs)
        self.layers += 1
        if self._options.where == "convolution":
            return prune_each(func(*args, **kwargs), self._options.draws, self._generators)
        activations = args[0] if args else kwargs["input"]
        pruned = prune(torch.relu(activations), self._options.draws, self._generators)
        return activations.copy_(pruned) if func in _IN_PLACE or kwargs.get("inplace") else pruned


_IN_PLACE = frozenset({F.relu_, torch.relu_, Tensor.relu_})
_RELUS = frozenset({F.relu, torch.relu, Tensor.relu}) | _IN_PLACE
_CONVOLUTIONS = frozenset({F.conv2d})

"""SAP, stochastic activation pruning. Source: Dhillon et al. 2018 (arXiv:1803.01442), section 3, and the authors' notebook.

Behind every ReLU of the classifier some activations are set to zero at random, and the others grow (`activation_pruning`
has the equation). The answer is the mean softmax of `passes` passes, as its logarithm. The figures of the paper are of 100
passes and as many draws as a layer has activations. A network is pruned as it runs and stays as it is: whatever calls torch's
relu is, as a module or a function.

Athalye et al. 2018 broke another thing under this name, and so did Table 4 of Sun et al. 2019: their `sap_model.py` prunes
what every convolution answers, which has signs and is not yet normalised, keeps each value on its own, twice as many on
average, and asks one pass: `{where: convolution, draws: 2.0, passes: 1}`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.overrides import TorchFunctionMode

from stl_ray.config.sections import Section
from stl_ray.defenses.activation_pruning import prune, prune_each
from stl_ray.errors import ConfigError, TensorError
from stl_ray.models import Victim


class SapOptions(Section):
    """The options of sap."""

    passes: int = Field(100, ge=1, description="passes whose softmaxes are averaged, each with draws of its own")
    draws: float = Field(1.0, gt=0, description="draws from a layer, as a share of its activations")
    where: Literal["relu", "convolution"] = Field(
        "relu", description="relu: the paper's, after every ReLU; convolution: as Athalye et al. 2018 wrote it, whom Table 4 "
        "follows (with draws 2.0 and passes 1)"
    )  # fmt: skip


@dataclass(frozen=True)
class PrunedNetwork:
    """A classifier with its activations pruned, for images with these seeds in these rows; a `Victim`.

    Args:
        classifier: is left as it is.
        seeds: per-image seeds (B,), of all passes.
        options: as above.
    """

    classifier: Victim
    seeds: Sequence[int]
    options: SapOptions

    def logits(self, images: Tensor) -> Tensor:
        """The logarithm of the mean softmax (B, n); see `Victim`.

        Raises:
            TensorError: there is another number of images than of seeds.
            ConfigError: the classifier has nothing to prune.
        """
        total: Tensor | None = None
        for pruning in self._passes(images):
            with pruning:
                answer = self.classifier.logits(images).log_softmax(1)
            pruning.require_layers()
            total = answer if total is None else torch.logaddexp(total, answer)
        assert total is not None
        return total - math.log(self.options.passes)

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """`logits`, and J^T cotangent(logits) of the drawn network: each pass is made again for its share; see `Victim`.

        Raises:
            TensorError, ConfigError: as `logits`.
        """
        mean = self.logits(images)
        v = cotangent(mean)

        def share(logits: Tensor) -> Tensor:
            answer = logits.log_softmax(1)
            weighted = v * (answer - mean).exp() / self.options.passes
            return weighted - answer.exp() * weighted.sum(1, keepdim=True)

        product = torch.zeros_like(images)
        for pruning in self._passes(images):
            with pruning:
                product += self.classifier.logits_and_vjp(images, share)[1]
        return mean, product

    def _passes(self, images: Tensor) -> Iterator["_Pruning"]:
        if len(images) != len(self.seeds):
            raise TensorError("every image has a seed of its own", expected=len(self.seeds), got=len(images))
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        for _ in range(self.options.passes):
            yield _Pruning(self.options, generators)


class _Pruning(TorchFunctionMode):
    """Where it is entered, what torch's functions answer is pruned."""

    def __init__(self, options: SapOptions, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self._options = options
        self._generators = generators
        self._layers = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """`func`, which torch was asked for; see `TorchFunctionMode`."""
        kwargs = kwargs or {}
        if self._options.where == "convolution":
            if func is not F.conv2d:
                return func(*args, **kwargs)
            self._layers += 1
            return prune_each(func(*args, **kwargs), self._options.draws, self._generators)
        if func not in _RELUS:
            return func(*args, **kwargs)
        self._layers += 1
        activations = args[0] if args else kwargs["input"]
        pruned = prune(torch.relu(activations), self._options.draws, self._generators)
        return activations.copy_(pruned) if func in _IN_PLACE or kwargs.get("inplace") else pruned

    def require_layers(self) -> None:
        """Refuse a network in which nothing was pruned.

        Raises:
            ConfigError: it has no such layer, or one that torch compiled.
        """
        if self._layers == 0:
            function = self._options.where
            expected = f"a network that calls torch's {'relu' if function == 'relu' else 'conv2d'}"
            got = "a pass without (of another activation, such as ReLU6, or compiled?)"
            raise ConfigError("the classifier has nothing to prune", item="sap", expected=expected, got=got)


_IN_PLACE = frozenset({F.relu_, torch.relu_, Tensor.relu_})
_RELUS = frozenset({F.relu, torch.relu, Tensor.relu}) | _IN_PLACE

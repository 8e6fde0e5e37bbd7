"""torchvision's classification networks by name, and its published weights by the members of its enums."""

import pickle
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import Tensor, nn

from stl_ray.errors import ArtifactError, ConfigError
from stl_ray.options import named, nearest

# torchvision is imported only when needed: it takes as long as torch itself, and other networks do without.

# Without the auxiliary heads, which return a tuple in training mode.
_WITHOUT_HEADS = ("googlenet", "inception_v3")


@cache
def names() -> tuple[str, ...]:
    """Every classification network of torchvision."""
    from torchvision import models

    return tuple(models.list_models(module=models))


def builder(name: str) -> Callable[[int], nn.Module]:
    """What builds a network for a number of classes, with random weights.

    Raises:
        ConfigError: torchvision has none of this name.
    """
    if name not in names():
        item = f"torchvision:{name}"
        raise ConfigError("unknown classifier of torchvision", item=item, expected=nearest(name, names()))
    from torchvision import models

    options = {"aux_logits": False, "init_weights": True} if name in _WITHOUT_HEADS else {}
    return lambda classes: models.get_model(name, weights=None, num_classes=classes, **options)


def recommended(name: str) -> str:
    """The member of torchvision's weights enums that it recommends for a network.

    Raises:
        ConfigError: torchvision has none of this name.
    """
    builder(name)
    from torchvision import models

    return str(models.get_model_weights(name).DEFAULT)


def published(name: str) -> Any:
    """The member of torchvision's weights enums that has this name.

    Raises:
        ConfigError: there is none.
    """
    from torchvision import models

    enums = {models.get_model_weights(model) for model in names()}
    return named({str(member): member for enum in enums for member in enum}, name, kind="weights of torchvision")


def published_state(name: str) -> dict[str, Tensor]:
    """The state dict of published weights, which is downloaded unless torch's cache has it.

    Raises:
        ConfigError: there are no such weights.
        ArtifactError: they cannot be downloaded, or the cached file is damaged.
    """
    try:
        return published(name).get_state_dict(check_hash=True, progress=False)  # type: ignore[no-any-return]
    except (pickle.UnpicklingError, EOFError) as error:
        raise ArtifactError(f"its file in torch's cache is damaged ({error}); remove it", item=name) from error
    except OSError as error:
        raise ArtifactError(
            f"cannot be downloaded ({error}); where there is no network, give the file that torchvision publishes",
            item=name,
        ) from error

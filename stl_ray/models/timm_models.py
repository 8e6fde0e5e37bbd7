"""timm's networks by name (an optional extra), with or without the tag of their weights, and the weights it publishes."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from stl_ray.errors import ArtifactError, ConfigError
from stl_ray.options import closest
from stl_ray.text import said


def builder(name: str) -> Callable[[int], nn.Module]:
    """What builds a network for a number of classes, with random weights.

    Raises:
        ConfigError: timm is not installed, or has none of this name.
    """
    timm = _timm(name)
    require_name(name)
    return lambda classes: timm.create_model(name, pretrained=False, num_classes=classes)


def require_name(name: str) -> None:
    """Refuse a name that timm does not know, or a tag that none of its weights have.

    Raises:
        ConfigError: timm is not installed, or has none of this name.
    """
    timm = _timm(name)
    known, kind = timm.list_models(), "classifier of timm"
    architecture = name.partition(".")[0]
    if architecture in known:
        known, kind = list(timm.models.get_arch_pretrained_cfgs(architecture)), "weights' tag of timm"
        if name == architecture or name in known:
            return
    close = closest(name, known)
    expected = "one of timm.list_models(pretrained=True)" if close is None else f"'timm:{close}'?"
    raise ConfigError(f"unknown {kind}", item=f"timm:{name}", expected=expected)


def normalisation(network: nn.Module) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation per channel, of images in [0, 1], that a network of timm's wants."""
    config: Any = network.pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"])


def published(name: str) -> tuple[str, int]:
    """The full name, with its tag, of the weights that timm publishes for a name, and the number of their classes.

    Raises:
        ConfigError: timm is not installed, does not know the name, or publishes no weights for it.
    """
    timm = _timm(name)
    require_name(name)
    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise ConfigError("timm publishes no weights for it", item=f"timm:{name}", expected="a file of weights")
    return (
        f"timm:{config.architecture}.{config.tag}" if config.tag else f"timm:{config.architecture}",
        config.num_classes,
    )


def published_state(name: str) -> dict[str, Tensor]:
    """The state dict that timm publishes, which is downloaded unless the cache of the Hugging Face hub has it.

    Raises:
        ConfigError: timm is not installed.
        ArtifactError: it cannot be downloaded or read.
    """
    try:
        return _timm(name).create_model(name, pretrained=True).state_dict()  # type: ignore[no-any-return]
    except ConfigError:
        raise
    except Exception as error:
        # Of many kinds: of the hub's client, of the network below it, of a file that is damaged.
        raise ArtifactError(
            f"timm cannot download its weights ({said(error)}); where there is no network, fill the cache of the Hugging "
            "Face hub (HF_HOME) beforehand, or give the file by `weights`",
            item=f"timm:{name}",
        ) from error


def _timm(name: str) -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            f"timm cannot be imported ({error})", item=f"timm:{name}", expected="the extra: pip install 'stl-ray[timm]'"
        ) from error
    return timm

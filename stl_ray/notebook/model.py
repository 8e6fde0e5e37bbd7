"""What a caller gives as the model, as a victim that was looked at."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stl_ray.errors import TensorError
from stl_ray.evaluation.batches import by_size
from stl_ray.models import LOOKED_AT, Classifier, Victim, look, module_digest
from stl_ray.models.answers import as_logits
from stl_ray.models.look import asked
from stl_ray.notebook.inputs import Images


@dataclass(frozen=True)
class Model:
    """A victim that answers about these images.

    Attributes:
        victim: of [0, 1] images.
        name: its architecture, or its class's name.
        class_names: n of them; numbers where it has no names.
        device: that it is on.
        identity: JSON-able; of a module with the digest of its weights.
        remarks: on what works and may not be meant.
    """

    victim: Victim
    name: str
    class_names: tuple[str, ...]
    device: str
    identity: dict[str, Any]
    remarks: tuple[str, ...]


def device_of(model: object, images: Images) -> str:
    """The device of a module's weights; that of the images where there are none."""
    tensors = (*model.parameters(), *model.buffers()) if isinstance(model, nn.Module) else ()
    return str(tensors[0].device) if tensors else images.device


def looked_at(model: object, images: Images, *, gradient: bool) -> Model:
    """The model as a victim, after a look at it with the first images of one size; nothing of it is changed.

    Args:
        model: as `stl_ray.evaluate` takes it.
        images: that it will be asked about.
        gradient: whether its gradient is needed.

    Raises:
        TensorError: it is none of these, is in training mode, its answers cannot be used, or a label is none of its classes.
        GradientError: its gradient cannot be used, and is needed.
    """
    name = model.architecture if isinstance(model, Classifier) else type(model).__name__
    if isinstance(model, nn.Module):
        _require_eval(model, name)
    device = device_of(model, images)
    _, few = next(by_size(images.pixels[:LOOKED_AT], device))
    if isinstance(model, Victim):
        classes = _classes(model.logits, few, name)
        victim: Victim = model
    elif isinstance(model, nn.Module):
        classes = _classes(model, few, name)
        victim = _wrapped(model, name, classes, device)
    else:
        expected = "a torch module on [0, 1] images, a Classifier, or an object with logits and logits_and_vjp"
        raise TensorError("not a model", item="model", expected=expected, got=type(model).__name__)
    for label, identifier in zip(images.labels.tolist(), images.ids, strict=True):
        if not 0 <= label < classes:
            expected = f"0 to {classes - 1}"
            raise TensorError("the label is no class of the model", item=identifier, expected=expected, got=label)
    remarks = look(victim, few, classes, item=name, gradient=gradient)
    numbers = tuple(map(str, range(classes)))
    return Model(
        victim,
        name,
        model.class_names if isinstance(model, Classifier) else numbers,
        device,
        {"model": name, "weights": module_digest(model)} if isinstance(model, nn.Module) else {"model": name},
        tuple(remarks),
    )


def warn_of(remarks: tuple[str, ...]) -> None:
    """A UserWarning for each remark, at the line that called the public function."""
    for text in remarks:
        warnings.warn(text, UserWarning, stacklevel=3)


def _require_eval(module: nn.Module, name: str) -> None:
    training = next((inner for inner, part in module.named_modules() if part.training), None)
    if training is not None:
        where = f"its module {training} is" if training else "it is"
        raise TensorError(f"{where} in training mode, where answers depend on the batch; call eval() first", item=name)


def _wrapped(module: nn.Module, name: str, classes: int, device: str) -> Classifier:
    wrapped = Classifier(
        module,
        architecture=name,
        class_names=[str(number) for number in range(classes)],
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        channels_last=False,
    )
    return wrapped.to(device).eval()


def _classes(ask: Callable[[Tensor], object], images: Tensor, name: str) -> int:
    """The number of logits in an answer."""
    with torch.no_grad():
        return int(as_logits(asked(ask, images, name), len(images), None, name).shape[1])

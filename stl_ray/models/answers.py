"""What a network may answer: a float tensor (B, n), or an object that has one as `logits`."""

from collections.abc import Mapping

from torch import Tensor

from stl_ray.errors import TensorError


def as_logits(answer: object, rows: int, classes: int | None, item: str) -> Tensor:
    """The logits in a network's answer, (B, n) in its own type.

    Args:
        answer: what the network returned.
        rows: B, the images that it was given.
        classes: n; None: as many as there are.
        item: the network, for messages.

    Raises:
        TensorError: the answer is no float tensor of this shape, nor has one as `logits` (attribute or key).
    """
    logits = answer.get("logits", answer) if isinstance(answer, Mapping) else getattr(answer, "logits", answer)
    if (
        not isinstance(logits, Tensor)
        or not logits.is_floating_point()
        or logits.dim() != 2
        or logits.shape != (rows, logits.shape[1] if classes is None else classes)
    ):
        raise TensorError(
            "the model's answer is not the logits of its classes",
            item=item, expected=f"a float tensor ({rows}, {'n' if classes is None else classes}): images, classes", got=_shown(logits),
        )  # fmt: skip
    return logits


def _shown(answer: object) -> str:
    if isinstance(answer, Tensor):
        return f"({', '.join(map(str, answer.shape))}) {str(answer.dtype).removeprefix('torch.')}"
    if isinstance(answer, Mapping):
        return f"{type(answer).__name__} with {', '.join(map(str, list(answer)[:3])) or 'nothing'}"
    if isinstance(answer, tuple | list):
        return f"{type(answer).__name__} of {', '.join(map(_shown, answer[:3])) or 'nothing'}"
    return type(answer).__name__

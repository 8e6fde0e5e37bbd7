"""The state dict of a network in what checkpoints hold around it.

Trainers put it beside optimizers and records (`state_dict`, `model`, `net`, `model_ema`), and wrappers put a prefix before
each name (`module.` DataParallel, `model.` Lightning, `_orig_mod.` torch.compile). It is what fits the network: all of its
names, the shapes, and no other name under the same prefix.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stl_ray.errors import ArtifactError

_WRAPPERS = re.compile(r"(?<=\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Within a name; in front of it they are a prefix as any other."""

_AVERAGED = re.compile(r"ema|averag|swa|teacher", re.IGNORECASE)
_COUNTER = "num_batches_tracked"  # of batch norm, which many published files leave out
_DEPTH = 3


class Found(NamedTuple):
    """A state dict in a file.

    Attributes:
        tensors: by the network's names where they fit it.
        where: the keys that led to it, and the prefix that was taken off: `state_dict/model.`; empty for a plain one.
        beside: names of tensors beside it that are left out.
    """

    tensors: dict[str, Tensor]
    where: str
    beside: list[str]


def find_state(loaded: object, wanted: Mapping[str, Tensor], network: str, item: str) -> Found:
    """The state dict for a network.

    Args:
        loaded: what was read from a file.
        wanted: the network's own state dict.
        network: what it is, for messages.
        item: the file.

    Raises:
        ArtifactError: none fits, or several do that differ.
    """
    found = [_without_prefix(tensors, where, wanted) for where, tensors in _mappings(loaded)]
    if not found:
        got = ", ".join(map(str, list(loaded)[:5])) if isinstance(loaded, Mapping) else type(loaded).__name__
        raise ArtifactError("not a state dict", item=item, expected="a tensor by name", got=got)
    all_found = [one for several in found for one in several]
    fitting = [one for one in all_found if not misfits(one.tensors, wanted)]
    if not fitting:
        nearest = max(all_found, key=lambda one: sum(name in wanted for name in one.tensors))
        require_fit(nearest.tensors, wanted, network, f"{item} ({nearest.where})" if nearest.where else item)
    chosen = [one for one in fitting if not _AVERAGED.search(one.where)] or fitting
    if any(not _same(one.tensors, chosen[0].tensors) for one in chosen[1:]):
        raise ArtifactError(
            f"several state dicts fit {network}",
            item=item, expected="one; save the one that is meant alone", got=", ".join(one.where for one in chosen),
        )  # fmt: skip
    return chosen[0]


def require_fit(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], network: str, item: str) -> None:
    """Refuse a state dict that does not fit a network.

    Raises:
        ArtifactError: a tensor is missing, unknown, of another shape, or quantised.
    """
    problems = misfits(tensors, wanted)
    if problems:
        raise ArtifactError(f"the weights do not fit {network}: {'; '.join(problems)}", item=item)


def misfits(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """What keeps a state dict from fitting a network: one entry for each kind, each with its first three names."""
    missing = sorted(name for name in wanted.keys() - tensors.keys() if not name.endswith(_COUNTER))
    unknown = sorted(tensors.keys() - wanted.keys())
    both = [name for name in tensors if name in wanted and not name.endswith(_COUNTER)]
    shapes = [name for name in both if tensors[name].shape != wanted[name].shape]
    kinds = [name for name in both if not _is_plain(tensors[name], wanted[name])]
    problems = []
    if missing:
        close = difflib.get_close_matches(missing[0], unknown, n=1, cutoff=0)
        problems.append(
            _listed(missing, "missing") + (f" (the nearest to {missing[0]} there: {close[0]})" if close else "")
        )
    if unknown:
        problems.append(_listed(unknown, "unknown"))
    if shapes:
        shown = [f"{name} is {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}" for name in shapes[:3]]
        problems.append(", ".join(shown) + _more(shapes))
    if kinds:
        shown = [f"{name} is {str(tensors[name].dtype).removeprefix('torch.')}" for name in kinds[:3]]
        problems.append(", ".join(shown) + _more(kinds) + ", no plain tensor of floating point (quantised?)")
    return problems


def _listed(names: list[str], what: str) -> str:
    return f"{', '.join(names[:3])}{_more(names)} {'is' if len(names) == 1 else 'are'} {what}"


def _more(names: list[str]) -> str:
    return f" and {len(names) - 3} more" if len(names) > 3 else ""


def _is_plain(tensor: Tensor, wanted: Tensor) -> bool:
    """Whether its values can be taken as they are: of 8 bits they go with scales, which a plain copy would forget."""
    if tensor.is_quantized or tensor.layout != torch.strided:
        return False
    if wanted.is_floating_point():
        return tensor.is_floating_point() and tensor.itemsize > 1
    return tensor.dtype == wanted.dtype


def _mappings(loaded: object, where: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping of names to tensors in what was loaded, and the keys that lead to it."""
    if not isinstance(loaded, Mapping) or not depth:
        return
    tensors = {_WRAPPERS.sub("", k): v for k, v in loaded.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        yield where, tensors
    for key, inner in loaded.items():
        yield from _mappings(inner, f"{where}{key}/", depth - 1)


def _without_prefix(tensors: dict[str, Tensor], where: str, wanted: Mapping[str, Any]) -> list[Found]:
    """The state dict under each prefix that leads to half of the network's names; without prefix where none does."""
    leading = Counter(name[:cut] for name in tensors for cut in _cuts(name) if name[cut:] in wanted)
    prefixes = [prefix for prefix, names in leading.items() if 2 * names >= len(wanted)]
    return [
        Found(
            {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)},
            where + prefix,
            [name for name in tensors if not name.startswith(prefix)],
        )
        for prefix in prefixes or [""]
    ]


def _cuts(name: str) -> list[int]:
    return [0, *(cut + 1 for cut, letter in enumerate(name) if letter == ".")]


def _same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items() if name in second)

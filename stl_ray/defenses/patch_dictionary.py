"""The dictionary of D3: natural patches without their means, each of norm 1."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stl_ray.errors import TensorError


@dataclass(frozen=True, eq=False)
class PatchDictionary:
    """Atoms of matching pursuit.

    Args:
        atoms: (K, 3, side, side) float32 on the CPU; each channel has mean 0, all three together norm 1.
        digest: of its artifact.

    Raises:
        TensorError: the atoms are something else.
    """

    atoms: Tensor
    digest: str
    _copies: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        shape, kind = tuple(self.atoms.shape), self.atoms.dtype
        if kind != torch.float32 or len(shape) != 4 or 0 in shape or shape[1] != 3 or shape[2] != shape[3]:
            expected = "(K, 3, side, side) torch.float32"
            raise TensorError("not a dictionary of patches", expected=expected, got=f"{shape} {kind}")
        norms, means = self.atoms.flatten(1).norm(dim=1), self.atoms.mean((2, 3))
        if not (bool((norms - 1).abs().max() < 1e-3) and bool(means.abs().max() < 1e-3)):  # of NaN, neither
            got = f"norms {float(norms.min()):g} to {float(norms.max()):g}, means up to {float(means.abs().max()):g}"
            raise TensorError("the atoms are not normalised", expected="norm 1, means 0", got=got)

    @property
    def side(self) -> int:
        """Of a patch, in pixels."""
        return self.atoms.shape[2]

    def on(self, device: torch.device) -> Tensor:
        """The atoms (K, 3 side side) on a device, to which they are copied once."""
        if device not in self._copies:
            self._copies[device] = self.atoms.flatten(1).to(device)
        return self._copies[device]

"""Several views of an image, one verdict: the class of the mean softmax. Source: Guo et al. 2018, sections 3 and 5.

`crop_ensemble` is their cropping and rescaling: 30 random crops of 90 pixels of 224. With other defenses as its members,
every crop passes each of them, and the softmaxes are averaged over all (their ensembles of TVM, quilting and crops).
`ensemble` has no crops: its members see the whole image.

Their networks are trained on the output of each transformation by itself, and so can those here be: every member then has
the network that was retrained for it (`networks`). Else all views are shown to one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import Field, Strict

from stl_ray.defenses.base import Defense, Transformation
from stl_ray.defenses.crops import Crop
from stl_ray.defenses.options import DefenseOptions
from stl_ray.defenses.undefended import Undefended
from stl_ray.errors import ConfigError
from stl_ray.models import Victim

WHOLE = "none"
"""Member that leaves the view as it is."""

Members = Annotated[tuple[str, ...], Strict(False)]


def require_member(name: str, *, detects: bool) -> None:
    """Refuse a member that refuses images, of which an ensemble would take no notice.

    Raises:
        ConfigError: it does.
    """
    if detects:
        raise ConfigError(
            "a member of an ensemble cannot refuse images", item=name, expected="a member without a detector (magnet: refuse: false)"
        )  # fmt: skip


class EnsembleOptions(DefenseOptions):
    """The options of ensemble."""

    of: Members = Field(
        min_length=2, description="names of other defenses of the experiment that transform images, or none: the image as it is"
    )  # fmt: skip

    @property
    def members(self) -> tuple[str, ...]:
        """See `DefenseOptions.members`."""
        return tuple(name for name in dict.fromkeys(self.of) if name != WHOLE)

    @property
    def requires(self) -> frozenset[str]:
        """The members."""
        return frozenset({"members"} if self.members else ())


class CropEnsembleOptions(EnsembleOptions):
    """The options of crop_ensemble."""

    of: Members = Field(
        (WHOLE,), min_length=1, description="what every crop passes: names of other defenses of the experiment that transform images, or "
        "none: the crop as it is"
    )  # fmt: skip
    crops: int = Field(30, ge=1, le=1000, description="crops for each member")
    share: float = Field(90 / 224, gt=0, le=1, description="side of a crop over the side of the image")


@dataclass(frozen=True)
class Ensemble(Defense):
    """Members side by side, each on the whole image or on crops of its own.

    Args:
        name: the row's name in the registry.
        members: their names in the experiment, or none.
        of: the members, in the same order.
        crops: number of crops for each; 0: it sees the whole image.
        share: side of a crop over the side of the image.
        networks: by name of a member, what sees its views; of the others it is the classifier that is defended.
    """

    name: str
    members: tuple[str, ...]
    of: tuple[Transformation, ...]
    crops: int = 0
    share: float = 1.0
    networks: Mapping[str, Victim] = field(default_factory=dict)

    @property
    def views(self) -> tuple[Transformation, ...]:
        """See `Defense.views`."""
        if not self.crops:
            return self.of
        return tuple(Crop(self.share, member) for member in self.of for _ in range(self.crops))

    @property
    def repeats(self) -> int:
        """See `Defense.repeats`: the crops of a member."""
        return max(1, self.crops)

    @property
    def iterative(self) -> bool:  # type: ignore[override]  # of the members
        """See `Defense.iterative`."""
        return any(member.iterative for member in self.of)

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        cropped = {"crops": self.crops, "share": self.share} if self.crops else {}
        return {"defense": self.name, "of": [member.identity() for member in self.of], **cropped}

    def network(self, classifier: Victim, seeds: Sequence[int], view: int = 0) -> Victim:
        """See `Defense.network`: the one of the member that the view is of."""
        return self.networks.get(self.members[view // self.repeats], classifier)

    def bare(self) -> "Ensemble":
        """Its networks side by side, each on the image itself."""
        return replace(self, of=(Undefended(),) * len(self.of), crops=0)

    def certified(self) -> "Ensemble":
        """See `Defense.certified`."""
        return replace(self, of=tuple(member.certified() for member in self.of))

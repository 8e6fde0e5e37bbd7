"""The spaces that an experiment's defenses project onto, as far as the report shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from stl_ray.config import Experiment, SpaceConfig, space_of
from stl_ray.errors import DictionaryError, InputError, StorageError
from stl_ray.report.names import STL_DEFENSES
from stl_ray.report.records import Curves
from stl_ray.report.space import StoredSpace, read_dictionary, read_space
from stl_ray.store import find_space


@dataclass(frozen=True)
class ShownSpace:
    """A space of an experiment; what is not there yet is None.

    Attributes:
        name: in the configuration.
        stored: the space.
        curves: of its fit; none where it was loaded.
        loaded_from: the place, where it was not fitted here.
        problem: why a space that is loaded cannot be read from here; empty where it can.
    """

    name: str
    stored: StoredSpace | None
    curves: Curves | None = None
    loaded_from: str | None = None
    problem: str = ""


def used_spaces(experiment: Experiment) -> Sequence[SpaceConfig]:
    """The spaces that a defense projects onto, in the order of the configuration.

    Raises:
        ConfigError: a defense names none of them.
    """
    used = [space_of(experiment, defense).name for defense in experiment.defenses if defense.defense in STL_DEFENSES]
    return [space for space in experiment.spaces if space.name in used]


def read_loaded(space: SpaceConfig, place: str) -> ShownSpace:
    """A space that lies elsewhere, perhaps where the report cannot go.

    Raises:
        ArtifactError: it is there, but altered or of another version.
    """
    try:
        stored = read_dictionary(place, space.lmbda) if space.is_dictionary else read_space(find_space(place))
    except (InputError, StorageError, DictionaryError) as error:
        return ShownSpace(space.name, None, loaded_from=place, problem=str(error))
    return ShownSpace(space.name, stored, loaded_from=place)

"""The spaces of an experiment: fitted below its root, or loaded from elsewhere, where they are read in place."""

from stl_ray.config import Experiment, SpaceConfig
from stl_ray.errors import IncompleteRunError, RunIdentityError
from stl_ray.space import QuasiNaturalSpace, imported_space
from stl_ray.store import Layout, Storage, find_space, require_same
from stl_ray.store.spaces import RECORD


def load_space(experiment: Experiment, space: SpaceConfig, device: str = "cpu") -> QuasiNaturalSpace:
    """A space of an experiment.

    Args:
        experiment: whose root has the spaces that it fits.
        space: one of its spaces.
        device: to load it to.

    Raises:
        IncompleteRunError: if it was not fitted yet.
        RunIdentityError: if it was fitted by another recipe than the one at hand.
        InputError: if there is none where it is to be loaded from.
        ArtifactError: if it is unreadable, altered, or of another version.
    """
    if space.load is not None:
        return _given(space.load, space).to(device)
    folder = Storage.open(experiment.root).below(Layout.space(space.name))
    if not folder.exists(RECORD):
        raise IncompleteRunError("there is no such space yet; run `stl-ray fit` first", item=folder.root)
    fitted = QuasiNaturalSpace.load(folder.root)
    _require_its_recipe(fitted, experiment, space, folder.root)
    return fitted.to(device)


def seed_of(experiment: Experiment, space: SpaceConfig) -> int:
    """The seed of a space's fit."""
    return experiment.seed if space.seed is None else space.seed


def _given(place: str, space: SpaceConfig) -> QuasiNaturalSpace:
    return imported_space(place, space.lmbda) if space.is_dictionary else QuasiNaturalSpace.load(find_space(place))


def _require_its_recipe(fitted: QuasiNaturalSpace, experiment: Experiment, space: SpaceConfig, where: str) -> None:
    """Refuse a space of an earlier configuration, which would pass for the one at hand."""
    made = {key: fitted.provenance.get(key) for key in ("fit", "seed")}
    try:
        require_same(made, {"fit": space.recipe(), "seed": seed_of(experiment, space)}, where)
    except RunIdentityError as error:
        raise RunIdentityError(
            "fitted by other settings than those at hand; run `stl-ray fit` again", item=where, expected=error.expected,
            got=error.got,
        ) from None  # fmt: skip

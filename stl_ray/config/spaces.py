"""The keys of `spaces`: a space that is loaded from elsewhere, or the recipe by which one is fitted here."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from stl_ray.config.base import Location, Name, Section
from stl_ray.uris import parted


class AutoencoderConfig(Section):
    """The denoising autoencoder whose latents route images (method: section 3.2 of the paper)."""

    side: Literal[32, 64] = Field(32, description="pixels; images are reduced to squares of this side before it")
    pretrained: Location | None = Field(
        None,
        description="folder of an autoencoder to take as it is, such as fit/autoencoder-1f2e3d4c of another experiment",
    )
    epochs: int = Field(30, ge=1, description="most epochs to train")
    patience: int = Field(5, ge=1, description="epochs without a better validation loss before training stops")
    batch_size: int = Field(64, ge=2, description="images per step over all workers")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's learning rate")
    noise: float = Field(0.15, ge=0, description="standard deviation of the Gaussian noise to remove, in [0, 1] pixels")
    validation: float = Field(0.1, gt=0, lt=1, description="share of the training images held out for early stopping")
    workers: int = Field(1, ge=1, description="Ray Train workers, of ray.cpus_per_actor CPUs each")
    gpu: bool = Field(False, description="one GPU per worker")

    @model_validator(mode="after")
    def _batch_fits_workers(self) -> "AutoencoderConfig":
        if self.batch_size < 2 * self.workers:
            raise ValueError("batch_size is over all workers, so it must be at least twice their number")
        return self


class DictionaryConfig(Section):
    """Convolutional dictionary learning, one dictionary per cluster and the universal one."""

    method: Literal["online", "consensus"] = Field(
        "online",
        description="online: four blocks of images at a time are coded, in turn, and their statistics travel; consensus: "
        "workers hold all blocks and code them in every iteration, and only filters travel",
    )
    filters: int = Field(64, ge=1, le=512, description="K, the number of filters")
    size: int = Field(8, ge=2, le=32, description="S, the filter side in pixels")
    lmbda: float = Field(
        0.2, gt=0, description="lambda, the l1 weight for [0, 1] pixels, in the convention of norm: 0.2 for joint "
        "corresponds to 0.35 for per_channel where a filter's channels are alike"
    )  # fmt: skip
    norm: Literal["joint", "per_channel"] = Field(
        "joint",
        description="unit norm of every filter over its channels together, as the authors' dictionaries have it, or in "
        "every channel, as the paper's Eq. 2 says",
    )
    zero_mean: bool = Field(True, description="filters of zero mean in every channel, as the authors' are")
    images: int = Field(
        1000, ge=1, description="images to learn each dictionary from at most, drawn from its cluster by seed"
    )
    holdout: int = Field(64, ge=1, description="further images of the cluster on which the objective is reported")
    block: int = Field(
        50, ge=1, description="images of a block, the unit that a worker holds and codes; the result depends on it, not on "
        "the number of workers"
    )  # fmt: skip
    iterations: int = Field(60, ge=1, description="most outer iterations: sparse codes, then filters")
    tolerance: float = Field(
        5e-4, ge=0, description="learning stops when the objective on the holdout has fallen by less than this share over "
        "the last five iterations"
    )  # fmt: skip


class FitConfig(Section):
    """The recipe of a stratified space: autoencoder, latents, clusters, dictionaries."""

    clusters: int = Field(4, ge=1, le=1000, description="M, the number of clusters (paper: 4, ImageNet 10)")
    candidates: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (2, 3, 4, 6, 8, 10, 15, 20), description="numbers of clusters to compare in the diagnostic figure; () for none"
    )
    neighbours: int = Field(15, ge=1, description="k of the nearest-neighbour vote that routes an image")
    references: int | None = Field(
        None, ge=2, description="training latents among which an image's neighbours are looked for, drawn by seed; all "
        "when absent"
    )  # fmt: skip
    pca_components: int = Field(128, ge=1, description="PCA dimensions at most; also limited by images and latents")
    restarts: int = Field(10, ge=1, description="k-means++ restarts")
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    dictionary: DictionaryConfig = DictionaryConfig()

    def recipe(self) -> dict[str, Any]:
        """All of these settings, JSON-able."""
        return self.model_dump(mode="json", include=set(FitConfig.model_fields))


class SpaceOrigin(Section):
    """The name of a space, and where it is from."""

    name: Name = Field(description="name of the space in paths, in the options of defenses and in the report")
    load: Location | None = Field(
        None, description="one of the authors' .npy dictionaries, the folder of a space, or the root of another experiment "
        "that has one space (of several: ROOT/spaces/NAME); read in place, so every node must see it; absent: the space "
        "is fitted by `fit`"
    )  # fmt: skip
    lmbda: float | None = Field(
        None, gt=0, description="lambda that a .npy dictionary was learned at; absent: from the file's name, K_pS_lmLAMBDA.npy"
    )  # fmt: skip
    seed: int | None = Field(None, ge=0, lt=2**63, description="of the fit; absent: the run seed")


class SpaceConfig(FitConfig, SpaceOrigin):  # in this order the help begins with the name
    """A space under a name: loaded from elsewhere as it is, or fitted here by the recipe of the other keys."""

    @property
    def is_dictionary(self) -> bool:
        """Whether it is one of the authors' files, by its name: one dictionary, no clusters; else what is loaded is a folder."""
        return self.load is not None and is_authors_file(self.load)

    @model_validator(mode="after")
    def _is_loaded_or_fitted(self) -> Self:
        fitting = sorted(self.model_fields_set - _LOADED)
        if self.load is not None and fitting:
            raise ValueError(f"a space that is loaded is not fitted: leave out {', '.join(fitting)}, or load")
        if self.lmbda is not None and not self.is_dictionary:
            raise ValueError("lmbda is that of a .npy dictionary; that of a space which is fitted is dictionary.lmbda")
        return self

    @model_serializer(mode="wrap")
    def _without_a_recipe_where_it_is_loaded(self, serialized: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialized(self)
        return {key: value for key, value in values.items() if self.load is None or key in _LOADED}


def is_authors_file(place: str) -> bool:
    """Whether a place is one of the authors' dictionaries, by its name; else it is a folder."""
    return parted(place)[1].lower().endswith(".npy")


_LOADED = {"name", "load", "lmbda"}
"""The keys of a space that is loaded."""


def with_names_of_their_own(spaces: tuple[SpaceConfig, ...]) -> tuple[SpaceConfig, ...]:
    """Refuse names that are the same, or differ in case alone."""
    names = [space.name.casefold() for space in spaces]
    if len(set(names)) != len(names):
        got = ", ".join(space.name for space in spaces)
        raise ValueError(f"names must differ, and not in case alone; got {got}")
    return spaces

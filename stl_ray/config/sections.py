"""One frozen model per job: every key with its type, unit, range and meaning, which `--help` prints.

Defaults apply to keys that are left out. Names of attacks, defenses and classifiers are checked against
their registries when a job starts, not here, because the registries live above this room.
"""

from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from stl_ray.config.attacks import AttackConfig, TiersConfig
from stl_ray.config.base import Location, Name, OptionValue
from stl_ray.config.base import Section as Section  # the rooms above take it from here
from stl_ray.config.classifiers import ClassifierConfig, is_function
from stl_ray.config.cluster import RayConfig
from stl_ray.config.spaces import SpaceConfig, with_names_of_their_own
from stl_ray.config.training import SCRATCH, TrainConfig
from stl_ray.errors import ConfigError
from stl_ray.options import nearest


class Source(Section):
    """The source of one split of the images."""

    format: Literal["photographs", "folder", "cifar10", "parquet", "tar"] = Field(
        description="photographs (bundled, no path), folder (one sub-folder per class; links are followed, but not into the folder itself), cifar10 (the python or the "
        "binary batches), parquet (ours or Hugging Face style: image struct<bytes, path>, label), or tar (not compressed; "
        "a folder per class in it, a tar per class, or labels beside the images as in WebDataset: KEY.cls, KEY.json or KEY.txt)"
    )
    path: Location | None = Field(
        None, description="file or folder to read, or a URI such as s3://bucket/folder; for parquet and tar also a pattern "
        "such as train-*.tar or **/train-?.tar, where nothing is called so; of a folder whose file names tell splits apart "
        "the files of this one; none for photographs"
    )  # fmt: skip
    limit: int | None = Field(None, ge=1, description="take the first N images of the source; all when absent")
    class_order: Literal["text", "number"] = Field(
        "text", description="order of classes that are folders or tars: text (0, 1, 10, 2), as torchvision's ImageFolder, or "
        "number (0, 1, 2, 10), where all their names are whole numbers"
    )  # fmt: skip

    @model_validator(mode="after")
    def _path_fits_format(self) -> "Source":
        if (self.format == "photographs") != (self.path is None):
            raise ValueError("photographs takes no path; every other format needs one")
        if self.class_order == "number" and self.format not in ("folder", "tar"):
            raise ValueError("class_order is that of folders and tars; every other format has an order of its own")
        return self


Split = Literal["train", "test"]


class IngestConfig(Section):
    """Image shards from files: decode, check, resize, store without loss."""

    train: Source | None = Field(
        None,
        description="the training images: spaces and classifiers that are made here see only these; absent: none is made",
    )
    test: Source | None = Field(None, description="the test images: attacked and scored; absent: nothing is scored")
    size: int | None = Field(
        None,
        ge=8,
        le=4096,
        description="pixels; shorter side resized to it, then the centre square; absent: as they are",
    )
    codec: Literal["png", "keep"] = Field(
        "png", description="png: stored as PNG; keep: an 8-bit RGB or grey JPEG or PNG that is upright and needs no resizing "
        "is stored byte for byte, which takes a sixth of the space for photographs, and the others as PNG"
    )  # fmt: skip
    shard_size: int = Field(1000, ge=1, description="images per shard")
    max_pixels: int = Field(
        50_000_000, ge=64, description="width x height above which an image is quarantined, before it is decoded"
    )

    @property
    def sources(self) -> dict[Split, Source]:
        """The source of every split that there is, train first."""
        given: dict[Split, Source | None] = {"train": self.train, "test": self.test}
        return {split: source for split, source in given.items() if source is not None}


class ProjectConfig(Section):
    """Purified shards: every split through every defense."""

    splits: tuple[Split, ...] = Field(
        ("train",),
        min_length=1,
        description="splits to purify; `train` needs train, and evaluate projects what it needs",
    )


class SolverConfig(Section):
    """How projections are computed, by `fit` and by the defenses."""

    method: Literal[
        "auto", "active_set", "active_set/avx512bf16", "active_set/avx512", "active_set/avx2", "active_set/baseline",
        "admm", "fused",
    ] = Field(
        "auto",
        description="auto is active_set on CPUs, where the native core was built, and fused on GPUs with Triton; "
        "the driver's own instruction set is meant unless one is named, and every node must have it",
    )  # fmt: skip


class NamedDefense(Section):
    """One defense under a name."""

    name: Name = Field(description="name of the defense in paths and tables")
    defense: str = Field(
        description="one of `stl-ray defenses`, such as jpeg, stl or stl_cluster; or module:function, which returns a function of "
        "[0, 1] images (docs/defenses.md)"
    )  # fmt: skip
    options: dict[str, OptionValue | list[OptionValue]] = Field(
        {}, description="the defense's own options, which `stl-ray defenses NAME` explains"
    )


class EvaluateConfig(Section):
    """Scores: every defense x (clean and every attack) x (vanilla, retrained), on the same images."""

    gallery: int = Field(8, ge=0, le=64, description="images shown as adversarial | purified | clean")
    draws: int = Field(
        10, ge=0, description="further draws of a randomised defense on every image, besides the deployed one: how often one is right, "
        "most are, all are; 0: none"
    )  # fmt: skip
    perturbations: int = Field(
        64, ge=0, description="images on which the perturbations of attack sets are measured before and behind each defense; 0: none"
    )  # fmt: skip
    tiers: TiersConfig = Field(TiersConfig(), description="attacks that know of the defense")
    sanity: Literal["quick", "full"] = Field(
        "quick", description="checks of the attacks and gradients themselves: on 64 of the tiers' images, or on all of them with "
        "more steps"
    )  # fmt: skip


class ReportConfig(Section):
    """The report's page."""

    title: str = Field(
        "Adversarial defense by stratified convolutional sparse coding", description="heading of the page"
    )
    paper: bool = Field(
        False, description="whether our figures stand beside the paper's in the cells of its tables, of images of this size"
    )  # fmt: skip


AnyNamed = TypeVar("AnyNamed", ClassifierConfig, NamedDefense)


def _unique_names(items: "tuple[AnyNamed, ...]") -> "tuple[AnyNamed, ...]":
    names = [item.name.casefold() for item in items]
    if len(set(names)) != len(names):
        got = ", ".join(item.name for item in items)
        raise ValueError(f"names must differ, and not in case alone; got {got}")
    return items


def _not_none(items: tuple[NamedDefense, ...]) -> tuple[NamedDefense, ...]:
    if any(item.name.casefold() == "none" for item in items):
        raise ValueError("'none' is the undefended row, which is always there; leave it out")
    return items


def _not_scratch(items: tuple[ClassifierConfig, ...]) -> tuple[ClassifierConfig, ...]:
    if any(item.name.casefold() == SCRATCH for item in items):
        raise ValueError(
            f"'{SCRATCH}' is the start of a retraining from random weights; give the classifier another name"
        )
    return items


class Experiment(Section):
    """One experiment: the keys that all jobs share, and one section per job."""

    name: Name = Field(description="name of the experiment, shown in the report")
    root: Location = Field(
        description="folder in which everything is written: a local or shared path, or a URI such as s3://bucket/folder (of "
        "an S3-compatible server: s3://bucket/folder?endpoint_url=http://host:port, or AWS_ENDPOINT_URL); every character is "
        "taken as it is written"
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="the run seed; every random number derives from it and the item's id"
    )
    max_quarantined: float = Field(0.001, ge=0, le=1, description="share of quarantined images above which a job fails")
    classifiers: Annotated[
        tuple[ClassifierConfig, ...], AfterValidator(_unique_names), AfterValidator(_not_scratch)
    ] = Field((), description="the classifiers of train, attack and evaluate, in the order of the tables")
    defenses: Annotated[tuple[NamedDefense, ...], AfterValidator(_unique_names), AfterValidator(_not_none)] = Field(
        (), description="the defenses of project, train, attack and evaluate, in the order of the tables; none: the undefended "
        "classifiers alone"
    )  # fmt: skip
    spaces: Annotated[tuple[SpaceConfig, ...], AfterValidator(with_names_of_their_own)] = Field(
        (), description="the spaces that defenses project onto, each loaded from elsewhere or fitted here"
    )
    ray: RayConfig = RayConfig()
    ingest: IngestConfig = IngestConfig()
    solver: SolverConfig = SolverConfig()
    project: ProjectConfig = ProjectConfig()
    train: TrainConfig = TrainConfig()
    attack: AttackConfig = AttackConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()

    @property
    def functions(self) -> tuple[str, ...]:
        """The architectures and defenses that are a user's own, `module:function`, each once."""
        named = [item.architecture for item in self.classifiers] + [item.defense for item in self.defenses]
        return tuple(dict.fromkeys(filter(is_function, named)))

    @model_validator(mode="after")
    def _recipes_are_whole(self) -> Self:
        # Frozen for everyone else: the experiment that is kept says every key of every recipe.
        whole = tuple(item.with_recipes(self.train) for item in self.classifiers)
        object.__setattr__(self, "classifiers", whole)
        for item in whole:
            for recipe in (item.recipe, item.retrain):
                if recipe is not None and recipe.batch_size < self.train.workers:
                    raise ValueError(
                        f"batch_size is over all workers, so it must be at least their number; got {recipe.batch_size} of "
                        f"{item.name} for {self.train.workers} workers"
                    )
        return self

    @model_validator(mode="after")
    def _jobs_fit_together(self) -> Self:
        stored = any(item.retrain is not None and item.retrain.projection == "stored" for item in self.classifiers)
        if stored and self.defenses and "train" not in self.project.splits:
            raise ValueError("classifiers that are retrained need project.splits to contain train")
        if len(set(self.project.splits)) != len(self.project.splits):
            raise ValueError("project.splits names a split twice")
        for number, space in enumerate(self.spaces):
            if space.load is None and self.ingest.size is not None and space.dictionary.size > self.ingest.size:
                key = f"spaces.{number}.dictionary.size"
                raise ValueError(f"{key}, the filter's side, is larger than ingest.size, the image's")
        names = [item.name.casefold() for item in self.attack.sets]
        if len(set(names)) != len(names) or "clean" in names:
            raise ValueError(f"attack.sets need names that differ, and 'clean' is taken; got {', '.join(names)}")
        names += [item.name.casefold() for item in self.evaluate.tiers.attacks]
        if len(set(names)) != len(names) or "clean" in names:
            raise ValueError(f"evaluate.tiers.attacks need names that no attack set has; got {', '.join(names)}")
        return self


def space_of(experiment: Experiment, defense: NamedDefense) -> SpaceConfig:
    """The space that a defense projects onto: the one that its option `space` names, else the only one there is.

    Raises:
        ConfigError: there is none of that name; or none is named, and there is not exactly one.
    """
    without = "`spaces: [{name: natural}]`, fitted here from training images, or with `load: FILE.npy`"
    return _chosen(defense, "space", experiment.spaces, "it is not said which space it projects onto", without)


def classifier_of(experiment: Experiment, defense: NamedDefense) -> ClassifierConfig:
    """The classifier that a defense looks with or lets answer: that of its option `classifier`, else the only one there is.

    Raises:
        ConfigError: there is none of that name; or none is named, and there is not exactly one.
    """
    unsaid = "it is not said which classifier it takes"
    return _chosen(defense, "classifier", experiment.classifiers, unsaid, "an entry of classifiers")


Choice = TypeVar("Choice", SpaceConfig, ClassifierConfig)


def _chosen(defense: NamedDefense, kind: str, items: tuple[Choice, ...], unsaid: str, without: str) -> Choice:
    """The item that an option of that name names; where it is absent, the only one.

    Args:
        defense: whose option it is.
        kind: of the items, and the option's name.
        items: of the experiment.
        unsaid: the message where none is named and there is not exactly one.
        without: what is expected where there are no items.
    """
    named = {item.name: item for item in items}
    name, key = defense.options.get(kind), f"{defense.name}.{kind}"
    if name is None and len(items) == 1:
        return items[0]
    if name is None:
        raise ConfigError(unsaid, item=key, expected=f"one of {', '.join(sorted(named))}" if named else without)
    if name not in named:
        raise ConfigError(f"no {kind} of this experiment", item=key, expected=nearest(name, named), got=name)
    return named[str(name)]

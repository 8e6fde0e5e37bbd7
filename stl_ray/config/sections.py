"""One frozen model per job: every key with its type, unit, range and meaning, which `--help` prints.

Defaults apply to keys that are left out. Names of attacks, defenses and classifiers are checked against
their registries when a job starts, not here, because the registries live above this room.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from stl_ray.config.attacks import AttackConfig, TiersConfig
from stl_ray.config.base import Location, Name, OptionValue
from stl_ray.config.base import Section as Section  # the rooms above take it from here
from stl_ray.config.spaces import SpaceConfig, with_names_of_their_own
from stl_ray.config.training import TrainConfig as TrainConfig
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


class IngestConfig(Section):
    """Image shards from files: decode, check, resize, store without loss."""

    train: Source = Field(description="the training images: the space and the classifiers see only these")
    test: Source = Field(description="the test images: attacked and scored")
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


class ProjectConfig(Section):
    """Purified shards: every split through every defense."""

    splits: tuple[Literal["train", "test"], ...] = Field(
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
    defense: str = Field(description="name in the defense registry, such as jpeg, stl or stl_cluster")
    options: dict[str, OptionValue] = Field(
        {}, description="the defense's own options: quality of jpeg; space, lmbda, accuracy and normalization of stl and "
        "stl_cluster"
    )  # fmt: skip


class EvaluateConfig(Section):
    """Scores: every defense x (clean and every attack) x (vanilla, retrained), on the same images."""

    gallery: int = Field(8, ge=0, le=64, description="images shown as adversarial | purified | clean")
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


class RayConfig(Section):
    """The Ray cluster and the size of its actors."""

    address: str | None = Field(
        None, description="Ray cluster to join; absent: RAY_ADDRESS, else a local one is started"
    )
    actors: int | None = Field(
        None, ge=1, description="most actors at work at once; absent: as many as the CPUs or GPUs carry"
    )
    min_actors: int | None = Field(
        None, ge=1, description="fewest actors; more are started while shards wait; absent: as many as ray.actors"
    )
    autoscaling: bool = Field(
        False, description="whether the cluster adds nodes on demand: workers that do not fit at present then wait instead of "
        "being refused; needs ray.actors"
    )  # fmt: skip
    cpus_per_actor: int = Field(1, ge=1, description="CPUs, and threads, of an actor")
    gpus_per_actor: float = Field(
        0.0, ge=0, le=1, description="GPU of an actor that computes (not of ingest); below 1, actors share one"
    )

    @model_validator(mode="after")
    def _pool_is_possible(self) -> "RayConfig":
        if self.autoscaling and self.actors is None:
            raise ValueError("autoscaling needs actors: what the cluster may grow to is not known here")
        if self.min_actors and self.actors and self.min_actors > self.actors:
            raise ValueError("min_actors must not be above actors")
        return self


def _unique_names(items: "tuple[NamedDefense, ...]") -> "tuple[NamedDefense, ...]":
    names = [item.name.casefold() for item in items]
    if len(set(names)) != len(names):
        got = ", ".join(item.name for item in items)
        raise ValueError(f"names must differ, and not in case alone; got {got}")
    if "none" in names:
        raise ValueError("'none' is the undefended row, which is always there; leave it out")
    if "vanilla" in names:
        raise ValueError("'vanilla' is the classifier without retraining; give the defense another name")
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
    defenses: Annotated[tuple[NamedDefense, ...], AfterValidator(_unique_names)] = Field(
        (
            NamedDefense(name="jpeg", defense="jpeg"),
            NamedDefense(name="stl", defense="stl"),
            NamedDefense(name="stl_cluster", defense="stl_cluster"),
        ),
        description="the defenses of project, train, attack and evaluate, in the order of the tables",
    )
    spaces: Annotated[tuple[SpaceConfig, ...], AfterValidator(with_names_of_their_own)] = Field(
        (SpaceConfig(name="natural"),),
        description="the spaces that defenses project onto, each loaded from elsewhere or fitted here",
    )
    ray: RayConfig = RayConfig()
    ingest: IngestConfig
    solver: SolverConfig = SolverConfig()
    project: ProjectConfig = ProjectConfig()
    train: TrainConfig = TrainConfig()
    attack: AttackConfig = AttackConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _jobs_fit_together(self) -> "Experiment":
        stored = self.train.retrain and self.train.projection == "stored"
        if stored and self.defenses and "train" not in self.project.splits:
            raise ValueError("train.retrain needs project.splits to contain train")
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
    spaces = {space.name: space for space in experiment.spaces}
    name = defense.options.get("space")
    if name is None and len(spaces) == 1:
        return experiment.spaces[0]
    item = f"{defense.name}.space"
    if name is None:
        expected = f"one of {', '.join(sorted(spaces))}" if spaces else "spaces that list one"
        raise ConfigError("it is not said which space it projects onto", item=item, expected=expected)
    if name not in spaces:
        raise ConfigError("no space of this experiment", item=item, expected=nearest(name, spaces), got=name)
    return spaces[str(name)]

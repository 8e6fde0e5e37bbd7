"""The files that the report reads, one model each: what must be in them, and nothing about how they were made."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from stl_ray.config.base import Name, OptionValue


class Record(BaseModel):
    """The base of the records: immutable; keys that the report does not use are ignored."""

    model_config = ConfigDict(frozen=True)


class Comparison(Record):
    """Accuracy of a defense minus that of no defense on the same images, with its 95 % interval."""

    gained: int | None = Field(
        None, description="images that are right behind the defense alone; older files have none"
    )
    lost: int | None = Field(None, description="images that are right without it alone")
    difference: float
    low: float
    high: float
    p: float = Field(description="exact two-sided McNemar test")
    p_adjusted: float | None = Field(
        None, description="by Holm's method over all comparisons of the setting; older files have none"
    )


class Share(Record):
    """A number of images among others, with the 95 % Wilson interval of its share."""

    count: int = Field(ge=0)
    total: int = Field(ge=1)
    share: float = Field(ge=0, le=1)
    low: float
    high: float


class Area(Record):
    """The area under a ROC curve with its 95 % interval."""

    estimate: float = Field(ge=0, le=1)
    low: float
    high: float


class Detection(Record):
    """What the detector of a defense did on one set of images."""

    refused: Share
    accepted: Share | None = Field(
        description="of the images that it accepted, those whose class is right; none: it refused all"
    )
    auroc: Area | None = Field(description="of its score, attacked against clean; none of the clean images")
    roc: tuple[tuple[float, float], ...] | None = Field(
        description="that curve: shares of clean and of attacked images above a threshold"
    )


class ClusterScore(Record):
    """The images of one cluster, by where each of them is routed when clean."""

    cluster: int
    defended: Share
    undefended: Share


class ScoreCell(Record):
    """One classifier setting behind one defense on one set of images."""

    setting: Literal["vanilla", "retrained"]
    defense: str
    attack: str = Field(description="`clean`, or the name of an attack set")
    threat: str = Field(description="tier of the attack set against this defense: what the attacker knew")
    correct: int = Field(ge=0)
    total: int = Field(ge=1)
    accuracy: float = Field(ge=0, le=1)
    low: float
    high: float
    float_disagreements: int = Field(
        description="images on which the pipeline without 8-bit rounding predicts otherwise"
    )
    psnr: float | None = Field(
        description="mean dB over the images that differ from the clean one; none where all are equal"
    )
    cluster_changed: float | None = Field(description="share of images routed to another cluster than when clean")
    statuses: dict[str, int] = Field({}, description="images by how the defense's solve ended; older files have none")
    detection: Detection | None = Field(description="none without a detector")
    initially_right: Share | None = Field(
        None, description="right here, of the images that the vanilla classifier alone has right when clean"
    )
    by_cluster: tuple[ClusterScore, ...] | None = Field(None, description="none without clusters")
    versus_none: Comparison | None


class Spread(Record):
    """The least, the mean and the largest of a measurement."""

    min: float
    mean: float
    max: float


class AttackSummary(Record):
    """What one attack set achieved on its victim."""

    images: int = Field(ge=1)
    statuses: dict[str, int] = Field(description="images by how the attack on them ended")
    successes: int = Field(ge=0, description="right when clean and wrong when attacked")
    dissimilarity: Spread = Field(description="||x' - x|| / ||x|| of each image")
    linf_max: float = Field(description="in [0, 1] pixels")


class DrawScore(Record):
    """A randomised defense on one set of images, over several draws."""

    setting: Literal["vanilla", "retrained"]
    defense: str
    attack: str = Field(description="`clean`, or the name of an attack set")
    draws: int = Field(ge=1)
    single: float = Field(ge=0, le=1, description="accuracy of one draw, the mean over the draws")
    spread: float | None = Field(description="standard deviation of that from draw to draw; none of one draw")
    majority: Share = Field(description="images on which the most frequent answer is right")
    every: Share = Field(description="images on which all draws are right")


class Perturbation(Record):
    """The perturbations of an attack set before a defense and behind it; measures are quartiles over images."""

    defense: str
    attack: str
    images: int = Field(ge=0)
    image_before: tuple[float, float, float] | None = Field(description="||x' - x|| / ||x||")
    image_behind: tuple[float, float, float] | None = Field(description="||T(x') - T(x)|| / ||T(x)||")
    features_before: tuple[float, float, float] | None = Field(
        description="the same of the classifier's penultimate features, without the defense; none of a network without them"
    )
    features_behind: tuple[float, float, float] | None
    smaller: Share | None = Field(description="images whose perturbation is smaller behind the defense")
    cluster_kept: Share | None = Field(description="images that are routed as when clean; none without clusters")
    spectrum_before: tuple[float, ...] | None = Field(
        description="mean parts of image_before ** 2 by spatial frequency, in bins of 1/32 of a cycle per pixel"
    )
    spectrum_behind: tuple[float, ...] | None


class TierStep(Record):
    """One attack of the cascade on one defense."""

    attack: str
    tier: str
    attacked: int = Field(description="images that it was tried on")
    held: int = Field(description="of these, still right: their class, or refused by a detector")
    refused: int = Field(description="of the attacked images, those that a detector refused")
    out_of_time: int
    correct: int = Field(description="images that this attack and all before it left right")
    accuracy: float = Field(description="correct over all images")
    low: float
    high: float


class Worst(Record):
    """Images right when clean and under every attack."""

    correct: int
    total: int
    accuracy: float
    low: float
    high: float


class SanityFlag(Record):
    """The outcome of one check."""

    check: str
    title: str
    state: Literal["passed", "raised", "not_run"]
    finding: str


class TierRow(Record):
    """One defense under the attacks of the tiers."""

    defense: str
    gradient: str = Field(description="the strongest that it has: exact, stand_in or bpda")
    images: int
    steps: tuple[TierStep, ...]
    worst: Worst
    complete: bool = Field(description="whether every attack reached all its images in time")
    flags: tuple[SanityFlag, ...]

    @property
    def raised(self) -> tuple[str, ...]:
        """The checks that void the row's claim."""
        return tuple(flag.check for flag in self.flags if flag.state == "raised")


class TierBudget(Record):
    """The budget of the tiers."""

    kind: Literal["dissimilarity", "l2", "linf"]
    size: float
    space: str
    store: str


class TierScores(Record):
    """Every defense under attacks that know of it."""

    budget: TierBudget
    retrained: tuple[str, ...] = Field(description="defenses whose classifier was retrained for them")
    cascade: bool
    sanity: str
    knowledge: dict[str, str] = Field(description="what each tier knows, in the order of the tiers")
    grey_box: tuple[str, ...] = Field(description="tiers that are no claim of robustness")
    rows: tuple[TierRow, ...]


class Method(Record):
    """An attack of the tiers as it was asked for."""

    name: str
    attack: str = Field(description="in the registry of the engine")
    engine: str
    options: dict[str, OptionValue]


class Identity(Record):
    """The identity of verdicts, as far as it says by what methods they were attacked."""

    attacks: tuple[Method, ...] = ()


class VerdictsRun(Record):
    """evaluate/CLASSIFIER/DEFENSE-under-attack/run.json."""

    identity: Identity


class Scores(Record):
    """evaluate/CLASSIFIER/scores.json."""

    format: Literal["scores"]
    version: Literal[3]
    images: int
    set_aside: int = Field(
        0, description="images that are in no cell, since a run set them aside; older files have none"
    )
    ids_sha256: str
    classifier: str = Field(description="its name in the experiment")
    architecture: str
    class_names: tuple[str, ...]
    chance: float
    cells: tuple[ScoreCell, ...]
    attacks: dict[str, AttackSummary] = Field({}, description="by attack set; older files have none")
    draws: tuple[DrawScore, ...] = Field(
        (), description="none without randomised defenses, where they were not asked for, and in older files"
    )
    perturbations: tuple[Perturbation, ...] = Field(
        (), description="none where they were not asked for, and in older files"
    )
    tiers: TierScores | None = Field(None, description="none where no attack was configured, and in older files")

    @property
    def scored(self) -> str:
        """The images of the cells, in words."""
        without = f", without {self.set_aside} that a run set aside" if self.set_aside else ""
        return f"the same {self.images} images{without}"


class GalleryRow(Record):
    """One row of evaluate/CLASSIFIER/gallery.parquet; images as PNG bytes."""

    id: str
    label: int
    attack: Name = Field(description="names the file of the figure too")
    why: Literal["spaced", "saved", "broken"] = Field(
        "spaced", description="of which kind it is one; older files: spaced"
    )
    defense: str
    adversarial: bytes
    purified: bytes
    clean: bytes
    pred_before: int = Field(description="by the vanilla classifier on the adversarial image")
    pred_after: int = Field(description="by the retrained classifier, if any, on the purified image")
    right_before: bool
    refused_after: bool = Field(description="by the defense's detector, if it has one")
    right_after: bool = Field(description="its class is right, or it was refused")


class AutoencoderEpoch(Record):
    """One epoch of the autoencoder."""

    epoch: int
    train_loss: float
    validation_loss: float
    psnr: float = Field(description="dB, of the denoised held-out images")
    noisy_psnr: float | None = Field(None, description="dB, of the noisy ones that went in; older files have none")


class DictionaryIteration(Record):
    """One outer iteration of dictionary learning."""

    iteration: int
    objective: float
    holdout_objective: float
    sparsity: float
    psnr: float
    converged: bool | None = Field(None, description="whether learning stopped after it; older files do not say")


class Candidate(Record):
    """One number of clusters, and how well the training latents fall into that many."""

    clusters: int = Field(ge=1)
    inertia: float = Field(description="mean squared distance of a latent to its centroid")
    silhouette: float = Field(description="mean, in [-1, 1]")
    sizes: tuple[int, ...]


class Clusters(Record):
    """Training images per cluster, and the numbers of clusters that were compared."""

    sizes: tuple[int, ...]
    candidates: tuple[Candidate, ...] = Field((), description="older files have none")


class Curves(Record):
    """spaces/NAME/curves.json."""

    autoencoder: tuple[AutoencoderEpoch, ...]
    dictionaries: dict[str, tuple[DictionaryIteration, ...]]
    clusters: Clusters


class TrainingEpoch(Record):
    """One line of train/CLASSIFIER/metrics.jsonl."""

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float | None = Field(None, description="on the test split; none where it was not measured")
    validation_accuracy: float | None = None
    learning_rate: float
    seconds: float
    images_per_second: float
    data_wait: float | None = Field(None, description="share of the time without an image to train on")


class ClassifierRecord(Record):
    """train/CLASSIFIER/model.json, as far as it is provenance."""

    digest: str


class Identical(Record):
    """The images of the splits that are the same, pixel by pixel."""

    in_both: int = Field(ge=0, description="test images that are training images too")
    test: int
    repeats_in_train: int
    repeats_in_test: int

    @property
    def text(self) -> str:
        """The counts in words."""
        both = f"{self.in_both:,} of {self.test:,} test images are also training images, pixel by pixel"
        return f"{both}; {self.repeats_in_train:,} of train and {self.repeats_in_test:,} of test repeat an image of their split."


class Session(Record):
    """One file of jobs/JOB/: one run of a job, whole or resumed."""

    job: str
    outcome: Literal["done", "failed"]
    started: str
    finished: str
    seconds: float = Field(ge=0)
    images: int = Field(ge=0)
    quarantined: int = Field(ge=0)
    cpus: int | None
    gpus: float | None = None
    machine: str
    versions: dict[str, str]
    config_digest: str
    commit: str | None
    identical: Identical | None = Field(None, description="of ingest; older files have none")


class Manifest(Record):
    """STAGE/NAME/MANIFEST.json: a finished dataset."""

    stage: str
    name: str
    rows: int
    quarantined: int
    reasons: dict[str, int] = {}
    digest: str = ""

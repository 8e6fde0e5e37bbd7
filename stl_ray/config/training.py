"""The keys of `train` and of retraining: recipes, adversarial training, where it is done."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stl_ray.config.base import Location, Section

SCRATCH = "scratch"
"""The start of a retraining from random weights; no classifier can have this name."""


class AdversarialConfig(Section):
    """Adversarial training: a part of every batch is attacked on the classifier as it is at that step."""

    method: Literal["fgsm", "pgd", "fast"] = Field(
        "fgsm", description="fgsm: one step, clean and attacked images mixed (Kurakin et al. 2017); pgd: several steps from "
        "a random start (Madry et al. 2018); fast: one step from a random start (Wong et al. 2020)"
    )  # fmt: skip
    dissimilarity: float | None = Field(
        None, gt=0, le=1, description="budget: an L_inf ball for every image, in which a full step of signs has this "
        "||x' - x|| / ||x||; the paper's Table 8 has 0.08"
    )  # fmt: skip
    linf: int | None = Field(
        None, ge=1, le=255, description="budget: radius of an L_inf ball in levels of 255; instead of dissimilarity"
    )
    share: float | None = Field(
        None, gt=0, le=1, description="share of a batch that is attacked; absent: 0.5 for fgsm, else 1"
    )
    weight: float = Field(
        0.3, gt=0, description="weight of an attacked image's loss beside a clean one's (Kurakin et al.: 0.3)"
    )
    steps: int = Field(7, ge=1, description="gradient steps of pgd")
    relative_step: float = Field(0.25, gt=0, description="step of pgd over the radius of the ball")
    gradient: Literal["exact", "bpda"] = Field(
        "exact", description="gradient of the defense that stands before the classifier (projection=on_the_fly): exact, or where "
        "it has none the best that it has; or the identity (bpda)"
    )  # fmt: skip

    @property
    def attacked_share(self) -> float:
        """The share of a batch that is attacked."""
        return self.share or (0.5 if self.method == "fgsm" else 1.0)

    @model_validator(mode="after")
    def _one_budget(self) -> "AdversarialConfig":
        if (self.dissimilarity is None) == (self.linf is None):
            raise ValueError("one budget: either dissimilarity or linf")
        return self


class Recipe(Section):
    """How a classifier is trained: whatever can change its weights."""

    epochs: int = Field(30, ge=1, description="passes over the training images")
    batch_size: int = Field(
        64, ge=1, description="images per step over all workers, at most: an epoch is dealt into equal batches, so that no "
        "image is left out and the last batch is no smaller than the others (by more than one)"
    )  # fmt: skip
    learning_rate: float = Field(0.05, gt=0, description="peak learning rate of SGD with Nesterov momentum")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay on weights, not on biases and norms")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    schedule: Literal["cosine", "step"] = Field(
        "cosine", description="after the warm-up: cosine falls to zero, step divides by ten at every milestone"
    )
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (1 / 3, 2 / 3, 8 / 9), description="of schedule=step: shares of all steps, as epochs 30, 60 and 80 of 90"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="label smoothing of the cross-entropy")
    clip_norm: float | None = Field(None, gt=0, description="largest norm of a step's gradient; absent: any")
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay, per step, of the moving average of the weights that is validated and kept; "
        "0: the weights themselves"
    )  # fmt: skip
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16: autocast; weights, losses and sums stay float32"
    )
    channels_last: bool = Field(False, description="memory format of images and weights; faster on GPUs")
    crop_padding: int = Field(
        4,
        ge=0,
        description="pixels of reflection padding for the random crop; 0: no crop; not used beside random_resized_crop",
    )
    random_resized_crop: float | None = Field(
        None, gt=0, le=1, description="least share of the image's area in a random crop that is resized to the whole "
        "(ImageNet: 0.08 to 0.35); absent: none"
    )  # fmt: skip
    flip: bool = Field(True, description="random horizontal flips")
    colour_jitter: float = Field(0.0, ge=0, lt=1, description="brightness, contrast and saturation by up to this share")
    rand_augment: int = Field(
        0, ge=0, le=30, description="magnitude of two operations of RandAugment (Cubuk et al. 2020: 9); 0: none"
    )
    mixup: float = Field(0.0, ge=0, description="alpha of mixup (Zhang et al. 2018: 0.2); 0: none")
    cutmix: float = Field(
        0.0, ge=0, description="alpha of CutMix (Yun et al. 2019: 1.0); beside mixup, one of both; 0: none"
    )
    start_size: int | None = Field(
        None, ge=8, description="pixels a side in the first epochs, growing by multiples of 32 to the images' own after 60 % "
        "of them; absent: always their own"
    )  # fmt: skip
    augment_on: Literal["loaders", "device"] = Field(
        "loaders", description="where crops, flips and colours are made: loaders, by the processes that decode; device, by "
        "the worker between its steps, which on GPU machines spares CPUs (its rounding may differ by a level)"
    )  # fmt: skip
    adversarial: AdversarialConfig | None = Field(None, description="adversarial training; absent: none")

    @model_validator(mode="after")
    def _attacked_images_have_one_class(self) -> Self:
        if self.adversarial is not None and (self.mixup or self.cutmix):
            raise ValueError("mixup and cutmix give images two classes, which adversarial training cannot attack")
        return self


class Retraining(Recipe):
    """A classifier of its own for each defense, trained on that defense's output; keys of `train` that differ for it."""

    start: str = Field(
        SCRATCH, description="weights to begin with: scratch, or the name of a classifier of the same architecture, often "
        "this one, which is then fine-tuned"
    )  # fmt: skip
    defenses: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="names of the defenses that it is retrained for; all when absent. For an ensemble a network "
        "of its own stands behind each member, which must be among them",
    )
    projection: Literal["stored", "on_the_fly"] = Field(
        "stored", description="input of a retrained classifier: augmented images of its defense's purified shards, or "
        "augmented clean images that pass the defense in every step; the latter for small data"
    )  # fmt: skip


class TrainConfig(Recipe):
    """The recipe of every classifier that is trained here, unless it says otherwise, and where it is trained."""

    compile: bool = Field(False, description="torch.compile, a minute or two before the first step")
    validate_every: int = Field(
        1, ge=0, description="epochs between validations on the test split, which are shown and select nothing; 0: none"
    )
    workers: int = Field(1, ge=1, description="Ray Train workers")
    min_workers: int | None = Field(
        None, ge=1, description="fewest workers to continue with while nodes are missing; the batches stay the same; absent: "
        "all of them"
    )  # fmt: skip
    cpus_per_worker: int = Field(1, ge=1, description="CPUs of a worker: its threads and its loaders share them")
    loaders: int | None = Field(
        None, ge=0, description="processes of a worker that decode and augment ahead of the step; 0: the worker does it "
        "between steps; absent: on GPUs cpus_per_worker - 1, at least 1, else 0"
    )  # fmt: skip
    scratch: Location | None = Field(
        None,
        description="folder on every node's own disk for the images, while training; absent: the system's temporary one",
    )
    gpu: bool = Field(False, description="one GPU per worker")

    @property
    def loader_processes(self) -> int:
        """Processes of a worker that decode and augment."""
        return self.loaders if self.loaders is not None else (max(1, self.cpus_per_worker - 1) if self.gpu else 0)

    @model_validator(mode="after")
    def _workers_fit(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError("min_workers is the fewest of workers, so it cannot be more")
        return self

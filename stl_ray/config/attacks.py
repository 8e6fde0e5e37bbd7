"""The keys of `attack` and of the attacks of `evaluate`: budgets, victims, sets, tiers."""

from typing import Literal, Self

from pydantic import Field, model_validator

from stl_ray.config.base import Location, Name, OptionValue, Section


class Budgeted(Section):
    """The budget of attacked images, exactly one of three, and the format in which they are stored."""

    dissimilarity: float | None = Field(None, gt=0, le=1, description="budget: ||x' - x|| / ||x|| in L2")
    l2: float | None = Field(None, gt=0, description="budget: ||x' - x|| of [0, 1] pixels")
    linf: float | None = Field(
        None, gt=0, le=255, description="budget: largest change of a value in levels of 255 (8 is 8/255); whole for u8"
    )
    space: Literal["pixel", "standardized"] = Field(
        "pixel", description="where L2 is measured: [0, 1] pixels, or after ImageNet's mean and standard deviation as in Guo et "
        "al., where the same dissimilarity allows about half of the change"
    )  # fmt: skip
    store: Literal["u8", "f32"] = Field(
        "u8",
        description="u8: rounded to 8 bits, as an image file is; f32: exact, for minimum-norm attacks and small budgets",
    )

    @model_validator(mode="after")
    def _has_one_budget(self) -> Self:
        given = [kind for kind in ("dissimilarity", "l2", "linf") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"one of dissimilarity, l2 and linf is needed; got {' and '.join(given) or 'none'}")
        if self.linf is not None and self.store == "u8" and not self.linf.is_integer():
            raise ValueError(f"8 bits hold whole levels: linf must be a whole number, or store f32; got {self.linf}")
        if self.linf is not None and self.space != "pixel":
            raise ValueError("linf is measured in pixels; leave space out")
        return self


Gradient = Literal["exact", "stand_in", "bpda", "none"]
"""Of a defense, as an attack takes it: its Jacobian, that of a differentiable stand-in, the identity, or none at all."""


class AttackedConfig(Section):
    """The victim of a set: a classifier, alone or behind a defense."""

    classifier: str | None = Field(
        None, description="name of a classifier; absent: the set is crafted once for each that is scored, on itself"
    )
    retrained_for: str | None = Field(
        None, description="name of a defense: the classifier as it was retrained for it; absent: as it is without"
    )
    defense: str | None = Field(None, description="name of the defense in front of it; absent: it is attacked alone")
    gradient: Gradient = Field(
        "exact", description="gradient of the defense: exact, that of its differentiable stand-in (stand_in), the identity in "
        "its place (bpda), or none: queries alone"
    )  # fmt: skip
    samples: int = Field(20, ge=1, description="draws of a randomised defense behind every gradient")


class NamedAttack(Budgeted):
    """One set of adversarial images: a method, and exactly one of the three budgets."""

    name: Name = Field(description="name of the set in paths and tables")
    attack: str = Field(description="name in the attack registry, such as fgsm, pgd, deepfool or autoattack")
    engine: Literal["native", "foolbox"] = Field(
        "native", description="native, or foolbox: then attack is the name of a class of foolbox.attacks"
    )
    victim: AttackedConfig = Field(AttackedConfig(), description="the model that the set is crafted on")
    budget: Literal["per_image", "dataset_mean"] = Field(
        "per_image", description="per_image: no image is over the dissimilarity; dataset_mean: one L2 radius for all, at which "
        "the images' mean dissimilarity is the budget"
    )  # fmt: skip
    options: dict[str, OptionValue] = Field({}, description="the attack's own options, such as steps")

    @model_validator(mode="after")
    def _mean_is_of_a_dissimilarity(self) -> Self:
        if self.budget == "dataset_mean" and self.dissimilarity is None:
            raise ValueError("dataset_mean is of a dissimilarity")
        return self


class AttackConfig(Section):
    """Adversarial shards, crafted from the clean test shards: on each scored classifier (threat tier T1a) by default."""

    sets: tuple[NamedAttack, ...] = Field(
        (
            NamedAttack(name="fgsm-0.08", attack="fgsm", dissimilarity=0.08),
            NamedAttack(name="fgsm-0.04", attack="fgsm", dissimilarity=0.04),
            NamedAttack(name="bim-0.03", attack="bim", dissimilarity=0.03),
        ),
        min_length=1,
        description="the adversarial sets to craft; dissimilarity per image, stored as 8-bit images",
    )


class TierAttack(Section):
    """One attack on every defense, and how much it may know of the defense."""

    name: Name = Field(description="name of the attack in tables")
    tier: Literal["T1b", "T2", "T3", "T4", "T5"] = Field(
        description="T1b: crafted on the classifier behind the defense alone; T2: on the substitute; T3: through the defense by "
        "BPDA; T4: through it with its exact gradient, or else that of its stand-in, where it has one; T5: by queries alone"
    )  # fmt: skip
    attack: str = Field(description="name in the attack registry")
    engine: Literal["native", "foolbox"] = Field(
        "native", description="native, or foolbox: then attack is the name of a class of foolbox.attacks"
    )
    options: dict[str, OptionValue] = Field({}, description="the attack's own options, such as steps")


class TiersConfig(Section):
    """Attacks that know of the defense, and the worst case over them: what a claim of robustness rests on.

    They go in this order, each on the images that the ones before left right, so the cheap ones come first.
    """

    budget: Budgeted = Field(Budgeted(dissimilarity=0.03), description="budget of every attack")
    attacks: tuple[TierAttack, ...] = Field(
        (
            TierAttack(name="grey-pgd", tier="T1b", attack="pgd"),
            TierAttack(name="bpda-pgd", tier="T3", attack="pgd"),
            TierAttack(name="exact-pgd", tier="T4", attack="pgd"),
            TierAttack(name="exact-autoattack", tier="T4", attack="autoattack"),
            TierAttack(name="square", tier="T5", attack="square", options={"queries": 1000}),
        ),
        description="the attacks in their order; () for none",
    )
    images: int | None = Field(
        1000, ge=1, description="test images to attack, the same for every defense: those whose ids hash lowest; absent: all"
    )  # fmt: skip
    cascade: bool = Field(
        True,
        description="whether later attacks skip images that an earlier one broke; false: every attack sees every image",
    )
    seconds: float | None = Field(
        None, gt=0, description="seconds that one attack may take on a shard; images that it has not begun by then count as not "
        "attacked, which voids the claim; absent: no limit. With a limit the result depends on the machine's speed"
    )  # fmt: skip
    samples: int = Field(20, ge=1, description="draws of a randomised defense behind every gradient")
    substitute: Location | None = Field(
        None, description="root of another experiment, finished up to train with another seed, whose defenses and classifiers "
        "(of the same names, or its only one) T2 attacks; needed by T2"
    )  # fmt: skip

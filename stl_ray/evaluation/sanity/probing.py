"""Asks a defended classifier what the checks look at; every image on its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from stl_ray.attacks import AttackResult, AttackStatus, Budget, make_attack
from stl_ray.defenses import Defended, SparseTransformation
from stl_ray.evaluation.cascade import verdicts_on
from stl_ray.evaluation.sanity import ablations, answers, budget, convergence, gradients, strength
from stl_ray.evaluation.sanity.sweep import SWEEP
from stl_ray.metrics import l2_norm, linf
from stl_ray.models import Victim, in_loop, predict
from stl_ray.seeding import seed_of

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Budgets of the sweep, times the budget; the largest that there is comes after them."""

FINITE_DIFFERENCES = 8
"""Images on which the vector-Jacobian product is checked, in two directions each."""

DIFFERENCE = 2e-5
"""Step of the finite differences over the image's norm: long enough for float32 and the certificate of a solve, short
enough that few atoms come and go."""

RETRIES: dict[str, dict[str, int | float | bool]] = {
    "start 1": {"random_start": True},
    "start 2": {"random_start": True},
    "start 3": {"random_start": True},
    "half the step": {"relative_step": 0.0625},
    "twice the step": {"relative_step": 0.25},
}
"""Options of the iterated attack that may make it find more."""


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Attributes:
        deployed: the defended classifier with the strongest gradient that it has.
        budget: of the attacks.
        store: what adversarial images are stored as.
        seed: the run seed.
        level: "quick" or "full": 10 or 50 steps of the iterated attack, and 100 or 1000 queries.
    """

    deployed: Defended
    budget: Budget
    store: Literal["u8", "f32"]
    seed: int
    level: Literal["quick", "full"] = "quick"

    @property
    def steps(self) -> int:
        """Of the iterated attack, before they are doubled."""
        return 10 if self.level == "quick" else 50

    @property
    def queries(self) -> int:
        """Of the gradient-free attack."""
        return 100 if self.level == "quick" else 1000


@dataclass(frozen=True)
class Stored:
    """Adversarial images as they are stored.

    Attributes:
        images: (B, 3, H, W).
        budget: that they were held to.
        store: what they are stored as.
        status: how the attack ended, where it is an attack that goes as far as it may.
    """

    images: Tensor
    budget: Budget
    store: Literal["u8", "f32"]
    status: Sequence[AttackStatus] | None = None


@dataclass
class Answers:
    """What is being found of B images."""

    labels: Tensor
    answers: dict[str, list[int]] = field(default_factory=dict)
    measures: dict[str, list[float]] = field(default_factory=dict)

    def rows(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """As rows of `PROBES_SCHEMA`."""
        return [
            {
                "id": name,
                "label": int(self.labels[row]),
                "answers": [{"probe": probe, "prediction": values[row]} for probe, values in self.answers.items()],
                "measures": [{"name": what, "value": values[row]} for what, values in self.measures.items()],
            }
            for row, name in enumerate(ids)
        ]


def probe(
    subject: Subject,
    images: Tensor,
    labels: Tensor,
    ids: Sequence[str],
    differences: Sequence[bool],
    stored: Mapping[str, Stored] | None = None,
) -> list[dict[str, Any]]:
    """Rows of `PROBES_SCHEMA`, one per image.

    Args:
        subject: what is checked.
        images: (B, 3, H, W) float32 in [0, 1] on the 8-bit grid.
        labels: (B,) int64.
        ids: of the images.
        differences: for which of the images finite differences are taken, which cost several certified solves.
        stored: the same images in the stored adversarial sets.
    """
    found = Answers(labels)
    _ask(subject, images, ids, found)
    _differentiate(subject, images, labels, differences, found)
    crafted = _attack(subject, images, labels, ids, found)
    _measure(subject, images, crafted, stored or {}, found)
    return found.rows(ids)


def _ask(subject: Subject, images: Tensor, ids: Sequence[str], found: Answers) -> None:
    """The clean images: again and again, alone, and the logits themselves."""
    deployed = subject.deployed
    found.answers["clean"] = verdicts_on(deployed, images, ids).tolist()
    for number in range(5):
        again = replace(deployed, seed=seed_of(deployed.seed, "pass", str(number)))
        found.answers[f"{answers.PASS}{number}"] = verdicts_on(again, images, ids).tolist()
    found.answers[answers.ALONE] = [
        int(verdicts_on(deployed, image[None], [name])[0]) for image, name in zip(images, ids, strict=True)
    ]
    together = in_loop(deployed, ids).logits(images)
    alone = torch.cat([in_loop(deployed, [name]).logits(image[None]) for image, name in zip(images, ids, strict=True)])
    spread = (together.amax(1) - together.amin(1)).clamp(min=1e-12)
    found.measures |= {
        answers.LOW: together.amin(1).tolist(),
        answers.HIGH: together.amax(1).tolist(),
        answers.SUM: together.sum(1).tolist(),
        answers.GAP: ((together - alone).abs().amax(1) / spread).tolist(),
        answers.TRAINING: [float(getattr(deployed.classifier, "training", False))] * len(ids),
    }


def _differentiate(
    subject: Subject, images: Tensor, labels: Tensor, differences: Sequence[bool], found: Answers
) -> None:
    """The gradient of the cross-entropy, and finite differences of the float pipeline at certified solves."""
    deployed = subject.deployed

    def slope(logits: Tensor) -> Tensor:
        return logits.softmax(1) - torch.nn.functional.one_hot(labels, logits.shape[1])

    _, gradient = deployed.logits_and_vjp(images, slope)
    finite = gradient.flatten(1).isfinite().all(1)
    size = l2_norm(gradient.nan_to_num())
    found.measures[gradients.ZERO] = (size == 0).double().tolist()
    found.measures[gradients.NOT_FINITE] = (~finite).double().tolist()
    bpda = replace(deployed, gradient="bpda").logits_and_vjp(images, slope)[1]
    if deployed.gradient == "exact":
        cosine = torch.nn.functional.cosine_similarity(gradient.flatten(1), bpda.flatten(1))
        found.measures[gradients.COSINE] = cosine.tolist()
    found.measures[gradients.RISES] = _rises(subject, images, labels, gradient).double().tolist()
    if deployed.gradient == "exact":
        found.measures[gradients.DIFFERENCE] = [
            _difference_error(certified(deployed), image[None], seed) if wanted else float("nan")
            for seed, (image, wanted) in enumerate(zip(images, differences, strict=True))
        ]


def certified(victim: Defended) -> Defended:
    """The float pipeline with its solves certified: what finite differences can be taken of."""
    defense = victim.defense
    if isinstance(defense, SparseTransformation):
        defense = replace(defense, config=defense.config.model_copy(update={"accuracy": "exact"}))
    return replace(victim, defense=defense, rounded=False)


def _rises(subject: Subject, images: Tensor, labels: Tensor, gradient: Tensor) -> Tensor:
    """(B,) bool: whether a hundredth of the budget along the gradient raises the loss of the float pipeline."""
    victim = certified(subject.deployed)
    radius = subject.budget.radius(images)[:, None, None, None]
    way = (
        gradient.sign()
        if subject.budget.norm == "linf"
        else gradient / l2_norm(gradient).clamp(min=1e-30)[:, None, None, None]
    )
    losses = [
        torch.nn.functional.cross_entropy(victim.logits(moved), labels, reduction="none")
        for moved in (images, (images + 0.01 * radius * way).clamp(0, 1))
    ]
    # Where the loss is zero to rounding nothing can be seen to rise.
    return (losses[1] > losses[0]) | (losses[0] < 1e-6)


def _difference_error(victim: Defended, image: Tensor, seed: int) -> float:
    """The median over two directions d of the relative error of (J^T v) d, v between the two likeliest classes."""
    generator = torch.Generator().manual_seed(seed)
    errors = []

    def slope(logits: Tensor) -> Tensor:
        v = torch.zeros_like(logits)
        return v.scatter(1, logits.topk(2, dim=1).indices[:, :2], torch.tensor([[1.0, -1.0]], device=logits.device))

    _, gradient = victim.logits_and_vjp(image, slope)
    for _ in range(2):
        # Half along the gradient: of a random direction alone nothing is seen above the solver's tolerance.
        noise = torch.randn(image.shape, generator=generator).to(image)
        way = gradient / l2_norm(gradient) + noise / l2_norm(noise)
        inside = (image > 0.02) & (image < 0.98)  # off the box, where the clip has its kinks
        way = way * inside / l2_norm(way * inside)
        step = DIFFERENCE * float(l2_norm(image))
        ahead, behind = victim.logits((image + step * way).clamp(0, 1)), victim.logits((image - step * way).clamp(0, 1))
        middle = slope(victim.logits(image))
        measured = float(((ahead - behind) * middle).sum()) / (2 * step)
        predicted = float((gradient * way).sum())
        errors.append(abs(predicted - measured) / max(abs(measured), 1e-30))
    return float(torch.tensor(errors).median())


@dataclass(frozen=True)
class Crafted:
    """What an attack made of the images."""

    result: AttackResult
    predictions: Tensor  # (B,) of the deployed pipeline, from cold solves


def _attack(subject: Subject, images: Tensor, labels: Tensor, ids: Sequence[str], found: Answers) -> dict[str, Crafted]:
    """Every attack, by the name of its probe."""
    deployed, steps = subject.deployed, subject.steps
    watched = _Watched(
        deployed,
        {str(seed_of(subject.seed, name, "attack")): label for name, label in zip(ids, labels.tolist(), strict=True)},
    )
    crafted: dict[str, Crafted] = {}

    def run(
        name: str, attack: str, victim: Victim, options: Mapping[str, Any], size: float | None = None, seed: int = 0
    ) -> Crafted:
        own = subject.budget if size is None else subject.budget.model_copy(update={"size": size})
        result = make_attack(attack, options)(
            victim, images, labels, budget=own, ids=ids, seed=subject.seed + seed, store=subject.store
        )
        made = Crafted(result, verdicts_on(deployed, result.images, ids))
        found.answers[name] = made.predictions.tolist()
        return made

    def iterated(**options: Any) -> dict[str, Any]:
        return {"random_start": False, "steps": steps, **options}

    crafted[strength.WHITE_BOX] = white = run(strength.WHITE_BOX, "pgd", watched, iterated())
    silent = [
        float(item in watched.fell and prediction == label)
        for item, prediction, label in zip(watched.labels, white.predictions.tolist(), labels.tolist(), strict=True)
    ]
    found.measures[convergence.SILENT] = silent
    crafted[strength.SINGLE_STEP] = run(strength.SINGLE_STEP, "fgsm", deployed, {})
    crafted[strength.NOISE] = run(strength.NOISE, "noise", deployed, {})
    crafted[strength.TRANSFER] = transfer = run(strength.TRANSFER, "pgd", deployed.classifier, iterated())
    found.answers[ablations.UNDEFENDED] = predict(deployed.classifier, transfer.result.images).tolist()
    if deployed.gradient != "bpda":
        crafted[strength.BPDA] = run(strength.BPDA, "pgd", replace(deployed, gradient="bpda"), iterated())
    crafted[strength.OTHER_LOSS] = run(strength.OTHER_LOSS, "pgd", deployed, iterated(loss="margin"))
    queries = {"queries": subject.queries}
    crafted[strength.GRADIENT_FREE] = run(strength.GRADIENT_FREE, "square", replace(deployed, gradient="none"), queries)
    for factor in (2, 4):
        more = run(f"{convergence.STEPS}{factor}", "pgd", deployed, iterated(steps=factor * steps))
        found.measures[f"{convergence.LOSS}{factor}"] = _margins(deployed, more.result.images, labels, ids)
    for number, (name, options) in enumerate(RETRIES.items()):
        run(f"{convergence.RETRY}{name}", "pgd", deployed, iterated(**options), seed=number)
    for size in sweep_sizes(subject.budget):
        run(f"{SWEEP}{size:g}", "pgd", deployed, iterated(), size=size)
    _other_clusters(subject, images, labels, ids, white, found)
    return crafted


def sweep_sizes(budget: Budget) -> list[float]:
    """The budgets of the sweep, the largest being all that there is: black and white, or anything."""
    most = {"dissimilarity": 1.0, "linf": 1.0, "l2": 64 * budget.size}[budget.kind]
    return [*(size for factor in FACTORS if (size := factor * budget.size) < most), most]


def _margins(victim: Victim, images: Tensor, labels: Tensor, ids: Sequence[str]) -> list[float]:
    """The largest other logit minus the true one, from cold solves."""
    logits = in_loop(victim, ids).logits(images)
    true = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)
    margins: list[float] = (others - true)[:, 0].tolist()
    return margins


def _other_clusters(
    subject: Subject, images: Tensor, labels: Tensor, ids: Sequence[str], white: Crafted, found: Answers
) -> None:
    """The iterated attack with gradients through a cluster that is not the predicted one."""
    defense = subject.deployed.defense
    if not isinstance(defense, SparseTransformation) or defense.space.router is None:
        return
    predicted = defense.purify(images).cluster.long()
    clusters = len(defense.space.dictionaries)
    found.measures[ablations.FLIPPED] = (
        (defense.purify(white.result.images).cluster.long() != predicted).double().tolist()
    )
    answered = found.answers["clean"].copy()
    # Quick: the next cluster of each image; full: all others, of which one that succeeds counts.
    for offset in range(1, clusters if subject.level == "full" else min(2, clusters)):
        for cluster in range(clusters):
            rows = ((predicted + offset) % clusters == cluster).nonzero()[:, 0].tolist()
            rows = [row for row in rows if answered[row] == int(labels[row])]
            if not rows:
                continue
            own = [ids[row] for row in rows]
            result = make_attack("pgd", {"random_start": False, "steps": subject.steps})(
                replace(subject.deployed, through=defense.routed_to(cluster)),
                images[rows],
                labels[rows],
                budget=subject.budget,
                ids=own,
                seed=subject.seed,
                store=subject.store,
            )
            for row, prediction in zip(rows, verdicts_on(subject.deployed, result.images, own).tolist(), strict=True):
                answered[row] = prediction
    found.answers[ablations.OTHER_CLUSTER] = answered


def _measure(
    subject: Subject, images: Tensor, crafted: Mapping[str, Crafted], stored: Mapping[str, Stored], found: Answers
) -> None:
    """How far every stored image is from its clean one, in float64, over its budget."""
    over, under, stray, box = [], [], [], []
    own = [Stored(made.result.images, subject.budget, subject.store, made.result.status) for made in crafted.values()]
    for item in [*own, *stored.values()]:
        excess = budget_share(item.images, images, item.budget) - 1
        # In L_inf an attack need not go as far as it may, and of a stored set it is not known whether it had to.
        reached = torch.zeros(len(images), dtype=torch.bool)
        if item.status is not None and item.budget.norm == "l2":
            reached = torch.tensor([status != AttackStatus.BUDGET_UNREACHABLE for status in item.status])
        short = torch.where(reached, -excess, 0).clamp(min=0)
        over.append(excess)
        under.append(short)
        stray.append(torch.maximum(excess / budget.OVER_ALLOWED[item.store], short / budget.UNDER_ALLOWED[item.store]))
        inside = item.images.isfinite() & (item.images >= 0) & (item.images <= 1)
        box.append((~inside).flatten(1).any(1).double().cpu())
    for name, values in ((budget.OVER, over), (budget.UNDER, under), (budget.STRAY, stray), (budget.BOX, box)):
        found.measures[name] = torch.stack(values).amax(0).tolist()


def budget_share(adversarial: Tensor, clean: Tensor, own: Budget) -> Tensor:
    """The size of every perturbation over its budget, (B,) float64 on the CPU; 0 for none, infinite where none is allowed."""
    shares = []
    for after, before in zip(adversarial.cpu().double() * 255, clean.cpu().double() * 255, strict=True):
        change = ((after - before) * own.weights(before))[None]
        size = float(l2_norm(change) if own.norm == "l2" else linf(change, torch.zeros_like(change)))
        radius = own.radius_in_levels(before)
        shares.append(size / radius if radius > 0 else (float("inf") if size > 0 else 0.0))
    return torch.tensor(shares, dtype=torch.float64)


class _Watched:
    """A victim that notes which items were ever answered wrongly on an attack's way."""

    def __init__(self, victim: Defended, labels: Mapping[str, int]) -> None:
        self.victim, self.labels = victim, labels
        self.fell: set[str] = set()

    def logits(self, images: Tensor) -> Tensor:
        return self.victim.logits(images)

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        return self.victim.logits_and_vjp(images, cotangent)

    def loop(self, items: Sequence[str | int]) -> Victim:
        return _WatchedLoop(self, self.victim.loop(items), [str(item) for item in items])


class _WatchedLoop:
    def __init__(self, watched: _Watched, loop: Victim, items: Sequence[str]) -> None:
        self.watched, self.loop_, self.items = watched, loop, items

    def logits(self, images: Tensor) -> Tensor:
        return self.loop_.logits(images)

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        logits, product = self.loop_.logits_and_vjp(images, cotangent)
        for item, prediction in zip(self.items, logits.argmax(1).tolist(), strict=False):
            if item in self.watched.labels and prediction != self.watched.labels[item]:
                self.watched.fell.add(item)
        return logits, product

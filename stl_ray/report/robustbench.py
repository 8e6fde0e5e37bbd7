"""A classifier's worst cases as entries in the manner of RobustBench's model_info (Croce et al. 2021): one for each defense.

Keys and their types are RobustBench's, percents as text with two decimals among them; what an experiment does not know (link, authors,
venue, additional_data, number_forward_passes, what others report) is null. Keys of ours come after them.
"""

from importlib.metadata import version
from typing import Any

from stl_ray.report.inputs import Inputs, ScoredClassifier
from stl_ray.report.names import UNDEFENDED, listed
from stl_ray.report.records import Method, TierBudget, TierRow, TierScores, TierStep
from stl_ray.report.tiers import budget_text

DATASETS = ("cifar10",)
"""Formats of images that are a dataset of RobustBench's."""


def entries_of(inputs: Inputs, block: ScoredClassifier) -> list[dict[str, Any]]:
    """An entry for each defense of a classifier that was attacked in the tiers; none without tiers."""
    tiers = block.scores.tiers
    return [] if tiers is None else [_entry(inputs, block, tiers, row) for row in tiers.rows]


def _entry(inputs: Inputs, block: ScoredClassifier, tiers: TierScores, row: TierRow) -> dict[str, Any]:
    methods = {method.name: method for method in block.methods.get(row.defense, ())}
    clean, auto = row.steps[0], _autoattack(row, methods)
    threat_model, eps = _threat_model(tiers.budget)
    return {
        "link": None,
        "name": block.name if row.defense == UNDEFENDED else f"{block.name} behind {row.defense}",
        "authors": None,
        "additional_data": None,
        "number_forward_passes": None,
        "dataset": _dataset(inputs),
        "venue": None,
        "architecture": block.scores.architecture,
        "eps": eps,
        "clean_acc": _percent(clean.accuracy),
        "reported": None,
        "autoattack_acc": None if auto is None else _percent(auto.accuracy),
        "external": _percent(row.worst.accuracy),
        "footnote": _footnote(tiers, row, auto),
        "unreliable": bool(row.raised) if row.flags else None,
        "source": f"stl-ray {version('stl-ray')}",
        "classifier": block.name,
        "defense": row.defense,
        "retrained": row.defense in tiers.retrained,
        "gradient": row.gradient,
        "threat_model": threat_model,
        "budget": tiers.budget.model_dump(mode="json"),
        "images": row.images,
        "clean_interval": [_percent(clean.low), _percent(clean.high)],
        "external_interval": [_percent(row.worst.low), _percent(row.worst.high)],
        "complete": row.complete,
        "flags_raised": list(row.raised),
        "attacks": [_attack(step, methods.get(step.attack)) for step in row.steps[1:]],
    }


def _autoattack(row: TierRow, methods: dict[str, Method]) -> TierStep | None:
    """The step of AutoAttack as it was published, through the defense by its exact gradient, that reached all that were left."""
    for step in row.steps:
        method = methods.get(step.attack)
        if method is None or (method.attack, method.engine, step.tier, row.gradient) != (
            "autoattack",
            "native",
            "T4",
            "exact",
        ):
            continue
        published = method.options in ({}, {"version": "standard"})
        if published and step.attacked and not step.out_of_time:
            return step
    return None


def _threat_model(budget: TierBudget) -> tuple[str | None, str | None]:
    """The threat model as RobustBench names it, and its size; nothing for a budget that it does not have."""
    if budget.kind == "linf":
        return "Linf", f"{budget.size * 255:g}/255"
    if (budget.kind, budget.space) == ("l2", "pixel"):
        return "L2", f"{budget.size:g}"
    return None, None


def _dataset(inputs: Inputs) -> str | None:
    source = inputs.experiment.ingest.test if inputs.experiment else None
    return source.format if source is not None and source.format in DATASETS else None


def _footnote(tiers: TierScores, row: TierRow, auto: TierStep | None) -> str:
    sentences = [
        f"external: percent of {row.images} test images that are right when clean and after every attack of `attacks`, at "
        f"{budget_text(tiers)}, with its 95 % Wilson interval.",
    ]
    if auto is not None:
        sentences.append(f"autoattack_acc: the same up to {auto.attack}, the attacks before it counted too.")
    if not row.complete:
        sentences.append("Attacks ran out of time, so that it is an upper bound.")
    if row.raised:
        sentences.append(f"Void: the sanity checks {listed(row.raised)} are raised.")
    elif not row.flags:
        sentences.append("The attacks on it were not checked.")
    return " ".join(sentences)


def _attack(step: TierStep, method: Method | None) -> dict[str, Any]:
    """An attack of the row; its method where that is on record: not of stored sets and of the checks."""
    return {
        "name": step.attack,
        "tier": step.tier,
        "method": None if method is None else method.model_dump(mode="json", include={"attack", "engine", "options"}),
        "attacked": step.attacked,
        "held": step.held,
        "right_so_far": step.correct,
    }


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"

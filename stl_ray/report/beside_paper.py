"""The paper's tables with ours in every cell: rows and columns in the paper's order, and why ours are missing where they are."""

from collections.abc import Mapping, Sequence

from stl_ray.config import Experiment, NamedAttack, NamedDefense
from stl_ray.report.accuracy import cells_of
from stl_ray.report.blocks import EMPTY, Cell, Table
from stl_ray.report.names import UNDEFENDED
from stl_ray.report.paper import NO_DEFENSE, Column, PaperTable
from stl_ray.report.records import ScoreCell, Scores, TierStep
from stl_ray.statistics import wilson
from stl_ray.store.layout import CLEAN

_DEFENSES = {
    NO_DEFENSE: "none", "MagNet": "magnet", "PixelDefend": "pixel_defend", "STL": "stl", "STL (cluster)": "stl_cluster",
    "TVM": "tvm", "Quilting": "quilting", "quilt": "quilting", "PD-Ens": "pixel_deflection", "SAP": "sap", "LID": "lid",
}  # fmt: skip
"""By the paper's row, the defense of the registry."""

_MEMBERS = {"TVM+quilt": ("ensemble", {"tvm", "quilting"}), "Crop-Ens": ("crop_ensemble", {"none", "tvm", "quilting"})}
"""Rows that are made of others."""

THERMOMETER, ADVERSARIAL = "TE", "Adv training"

_NOT_RETRAINED = (NO_DEFENSE, ADVERSARIAL)

_ATOMS = {"D3 (40K-5)": (40_000, 5), "D3 (10K-5)": (10_000, 5), "D3 (10K-4)": (10_000, 4)}
_DEFAULT_ATOMS = (10_000, 5)


def beside_paper(table: PaperTable, experiment: Experiment, scores: Scores) -> Table:
    """A table of the paper's, ours and the paper's figure in each cell."""
    reasons: dict[str, str] = {}
    rows = tuple(_row(table, name, values, experiment, scores, reasons) for name, values in table.rows)
    missing = "".join(f" {what}: {why}." for what, why in reasons.items())
    return Table(
        f"beside-paper-{table.number}",
        f"{table.title}; ours: {scores.classifier} ({scores.architecture})",
        ("Defense", *(column.label for column in table.columns)),
        rows,
        f"Ours with its 95 % Wilson interval on {_images(table, scores)} of {len(scores.class_names)} classes, and behind it the paper's "
        f"figure, of {table.network} on {table.dataset}: other networks, images and attacks of the same name, so compare their order "
        f"and not digit by digit.{missing}",
    )


def _images(table: PaperTable, scores: Scores) -> str:
    """The images of ours, in words; those of the tiers may be fewer."""
    if scores.tiers is None or not any(column.tier for column in table.columns):
        return scores.scored
    return f"{max((row.images for row in scores.tiers.rows), default=0)} images"


def _row(
    table: PaperTable,
    name: str,
    values: Sequence[float | None],
    experiment: Experiment,
    scores: Scores,
    reasons: dict[str, str],
) -> tuple[Cell, ...]:
    candidates = _defenses_of(name, experiment)
    retrained = {defense for defense, _ in cells_of(scores, "retrained")}
    wanted = [own for own in candidates if own in retrained] if table.setting == "retrained" else candidates
    own = next(iter(candidates if name in _NOT_RETRAINED else wanted), None)
    if not candidates:
        reasons[name] = "no such defense here"
    elif own is None:
        reasons[name] = "no classifier was retrained for it"
    cells = []
    for column, value in zip(table.columns, values, strict=True):
        found = None if own is None else _measured(table, own, column, experiment, scores)
        if found is None and own is not None:
            reasons.setdefault(column.label, "no such attack here, or not on every row's network")
        cells.append(_cell(found, value))
    return (Cell(name, note="" if own in (None, UNDEFENDED) else str(own)), *cells)


def _defenses_of(name: str, experiment: Experiment) -> list[str]:
    """The names in the experiment of the defenses that the paper's row is of, in its order."""
    if name == NO_DEFENSE:
        return [UNDEFENDED]
    return [item.name for item in experiment.defenses if _is_row(name, item, experiment)]


def _is_row(name: str, item: NamedDefense, experiment: Experiment) -> bool:
    kinds = {other.name: other.defense for other in experiment.defenses}
    if name in _ATOMS:
        atoms, sparsity = _DEFAULT_ATOMS
        own = item.options.get("atoms", atoms), item.options.get("sparsity", sparsity)
        return item.defense == "d3" and own == _ATOMS[name]
    if name in _MEMBERS:
        members = item.options.get("of")
        listed = members if isinstance(members, list | tuple) else ()
        kind, wanted = _MEMBERS[name]
        return item.defense == kind and {kinds.get(str(member), str(member)) for member in listed} == wanted
    if name in (THERMOMETER, ADVERSARIAL):
        other = {one.name: one.architecture for one in experiment.classifiers}.get(
            str(item.options.get("classifier")), ""
        )
        return item.defense == "robust_classifier" and other.startswith("thermometer") == (name == THERMOMETER)
    return item.defense == _DEFENSES[name]


def _measured(
    table: PaperTable, defense: str, column: Column, experiment: Experiment, scores: Scores
) -> tuple[float, float, float] | None:
    """Our accuracy with its interval, where there is one."""
    if column.tier is not None:
        return _of_tier(defense, column, scores)
    # A wrapped network is not retrained: it is in the vanilla setting alone.
    cells: Mapping[tuple[str, str], ScoreCell] = {**cells_of(scores, "vanilla"), **cells_of(scores, table.setting)}
    sets = [item.name for item in experiment.attack.sets if _is_column(item, column, scores.classifier)]
    sets = [CLEAN] if column.attack is None else sets
    found = next((cells[defense, name] for name in sets if (defense, name) in cells), None)
    return None if found is None else (found.accuracy, found.low, found.high)


def _is_column(item: NamedAttack, column: Column, classifier: str) -> bool:
    """Whether a set is crafted on the classifier alone, as it is without defense, by the method and the budget of a column."""
    victim = item.victim
    alone = victim.defense is None and victim.retrained_for is None and victim.classifier in (None, classifier)
    same = item.attack == column.attack and item.dissimilarity == column.dissimilarity
    # One vector for all images has a mean dissimilarity in any case.
    as_mean = item.attack == "uap" or (item.budget == "dataset_mean") == column.mean
    return same and as_mean and alone and item.space == "pixel"


def _of_tier(defense: str, column: Column, scores: Scores) -> tuple[float, float, float] | None:
    """What the strongest attack of a tier leaves of a defense whose classifier was not retrained, where the budget is the
    column's; in a cascade, with all before it."""
    tiers = scores.tiers
    if tiers is None or tiers.budget.kind != "linf" or round(255 * tiers.budget.size, 6) != column.linf:
        return None
    rows = [row for row in tiers.rows if row.defense == defense and defense not in tiers.retrained]
    steps = [step for row in rows for step in row.steps if step.tier == column.tier and not step.out_of_time]
    if tiers.cascade:
        return min(((step.accuracy, step.low, step.high) for step in steps), default=None)
    return min(map(_alone, steps), default=None)


def _alone(step: TierStep) -> tuple[float, float, float]:
    estimate, low, high = wilson(step.held, step.attacked)
    return estimate, low, high


def _cell(found: tuple[float, float, float] | None, value: float | None) -> Cell:
    paper = "" if value is None else f"paper {value:.4g}"
    if found is None:
        return Cell(EMPTY.text, note=paper)
    accuracy, low, high = found
    return Cell(f"{accuracy:.3f}", note=f"[{low:.3f}, {high:.3f}]{'; ' * bool(paper)}{paper}")

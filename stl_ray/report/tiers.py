"""Every defense under attacks that know of it: the worst case first, then tier by tier, then the checks on the attacks."""

from collections.abc import Iterable, Sequence

from stl_ray.report.accuracy import RULE
from stl_ray.report.blocks import EMPTY, Block, Cell, Table, Text
from stl_ray.report.intervals import interval_cell
from stl_ray.report.names import SETTINGS, UNDEFENDED, attack_label, defense_label, listed, unique
from stl_ray.report.records import TierRow, TierScores, TierStep


def tier_blocks(tiers: TierScores) -> tuple[Block, ...]:
    """The section's blocks."""
    used = unique(step.tier for row in tiers.rows for step in row.steps)
    ordered = [tier for tier in tiers.knowledge if tier in used]
    return (
        *(Text(sentence, kind="finding") for sentence in _findings(tiers)),
        worst_case(tiers, ordered),
        *(tier_table(tiers, tier) for tier in ordered if tier != "T0"),
        *_checks(tiers),
    )


def worst_case(tiers: TierScores, used: Sequence[str]) -> Table:
    """Rows defenses, columns the tiers as they add up; the last is the headline."""
    return Table(
        name="worst-case",
        caption=f"Accuracy under everything up to a tier, and the worst case ({_classifiers(tiers)}, "
        f"{budget_text(tiers)})",
        columns=("Defense", "Clean", *(f"+ {tier}" for tier in used if tier != "T0"), "Worst case", "Flags"),
        rows=tuple(
            (
                Cell(defense_label(row.defense)),
                *(_cumulative(row, tier) for tier in used),
                Cell(
                    f"{_at_most(row)}{row.worst.accuracy:.3f}",
                    note=f"[{row.worst.low:.3f}, {row.worst.high:.3f}]",
                    strong=not row.raised and bool(row.flags) and row.complete,
                ),
                Cell(_flags(row)),
            )
            for row in tiers.rows
        ),
        footnote="An image counts only if the deployed pipeline is right on it when clean and after every attack so far; "
        "accuracy [95 % Wilson interval] over "
        f"{tiers.rows[0].images} images, the same for all. Verdicts are from cold solves on the stored images. Flags: checks "
        "that are raised, each of which voids the row's claim to robustness; a row in bold has none."
        f"{_refused(tiers)}{_incomplete(tiers)}",
        notes="interval",
    )


def tier_table(tiers: TierScores, tier: str) -> Table:
    """The attacks of one tier: how many of the attacked images each left right."""
    names = unique(step.attack for row in tiers.rows for step in row.steps if step.tier == tier)
    grey = " These rows are no claim of robustness." if tier in tiers.grey_box else ""
    tried = "the survivors of the attacks before it" if tiers.cascade else "all images"
    return Table(
        name=f"tier-{tier}",
        caption=f"{tier}: {tiers.knowledge[tier]}",
        columns=("Defense", *map(attack_label, names)),
        rows=tuple(
            (Cell(defense_label(row.defense), note=_way(row, tier)), *(_held(_step(row, name), row) for name in names))
            for row in tiers.rows
        ),
        footnote=f"Left right, of the images that the attack was tried on: {tried}. In brackets the accuracy over all images "
        f"once this attack and all before it are counted [95 % Wilson interval].{grey}",
    )


def _way(row: TierRow, tier: str) -> str:
    """In a table of gradients, beside a row that has none of its own."""
    return "by a stand-in's gradient" if (tier, row.gradient) == ("T4", "stand_in") else ""


def budget_text(tiers: TierScores) -> str:
    """The budget in words."""
    budget = tiers.budget
    size = f"{budget.size * 255:g}/255" if budget.kind == "linf" else f"{budget.size:g}"
    kind = {"linf": "L_inf", "l2": "L2", "dissimilarity": "dissimilarity"}[budget.kind]
    space = "" if budget.kind == "linf" or budget.space == "pixel" else f" in {budget.space} space"
    return f"{kind} {size}{space}, stored as {'8-bit images' if budget.store == 'u8' else 'float32'}"


def _classifiers(tiers: TierScores) -> str:
    """What stands behind the defenses, in words."""
    vanilla = [row.defense for row in tiers.rows if row.defense not in (UNDEFENDED, *tiers.retrained)]
    if not (vanilla and tiers.retrained):
        return SETTINGS["retrained" if tiers.retrained else "vanilla"].lower()
    return f"classifiers retrained for {listed([*map(defense_label, tiers.retrained)])}, vanilla classifier elsewhere"


def _findings(tiers: TierScores) -> Iterable[str]:
    for row in tiers.rows:
        if not row.flags:
            continue
        worst = row.worst
        accuracy = f"{_at_most(row)}{worst.accuracy:.3f} [{worst.low:.3f}, {worst.high:.3f}]"
        verdict = f"void: {', '.join(row.raised)} raised" if row.raised else "no flag is raised"
        yield (
            f"{defense_label(row.defense)}: {accuracy} of {worst.total} images in the worst case at {budget_text(tiers)}; "
            f"{_late(row)}{verdict}."
        )


def _at_most(row: TierRow) -> str:
    """Before the worst case: it can only fall with the attacks for which there was no time."""
    return "" if row.complete else "at most "


def _late(row: TierRow) -> str:
    """What a row lacks, in words."""
    if row.complete:
        return ""
    late = ", ".join(
        f"{attack_label(step.attack)} on {step.out_of_time} images" for step in row.steps if step.out_of_time
    )
    return f"incomplete, an upper bound: no time was left for {late}; "


def _refused(tiers: TierScores) -> str:
    """What right means where a detector refused an image; empty where none did."""
    return f" {RULE}" if any(step.refused for row in tiers.rows for step in row.steps) else ""


def _incomplete(tiers: TierScores) -> str:
    if all(row.complete for row in tiers.rows):
        return ""
    return (
        ' "At most": attacks ran out of time, so that some images met fewer of them, and the accuracy is an upper bound; '
        "the tables below say which."
    )


def _checks(tiers: TierScores) -> tuple[Block, ...]:
    rows = [row for row in tiers.rows if row.flags]
    if not rows:
        return ()
    checks = [(flag.check, flag.title) for flag in rows[0].flags]
    flags = {(row.defense, flag.check): flag for row in rows for flag in row.flags}
    table = Table(
        name="checks",
        caption=f"The sanity checks ({tiers.sanity})",
        columns=("Check", *(defense_label(row.defense) for row in rows)),
        rows=tuple(
            (
                Cell(check, note=title),
                *(Cell(flags[row.defense, check].state.replace("_", " "), strong=check in row.raised) for row in rows),
            )
            for check, title in checks
        ),
        footnote="docs/evaluation.md says when each is raised, and what that means.",
    )
    findings = Table(
        name="findings",
        caption="What the checks found",
        columns=("Defense", "Check", "State", "Finding"),
        rows=tuple(
            (
                Cell(defense_label(row.defense)),
                Cell(flag.check, note=flag.title),
                Cell(flag.state.replace("_", " ")),
                Cell(flag.finding),
            )
            for row in rows
            for flag in row.flags
        ),
        folded=True,
    )
    return table, findings


def _step(row: TierRow, attack: str) -> TierStep | None:
    return next((step for step in row.steps if step.attack == attack), None)


def _cumulative(row: TierRow, tier: str) -> Cell:
    steps = [step for step in row.steps if step.tier == tier]
    if not steps:
        return EMPTY
    return interval_cell(steps[-1].accuracy, steps[-1].low, steps[-1].high)


def _held(step: TierStep | None, row: TierRow) -> Cell:
    if step is None:
        return EMPTY
    if step.attacked == step.out_of_time == 0:
        return Cell("none left", note=f"({step.accuracy:.3f})")
    late = f", {step.out_of_time} not in time" if step.out_of_time else ""
    refused = f", {step.refused} refused" if step.refused else ""
    note = f"({step.accuracy:.3f} [{step.low:.3f}, {step.high:.3f}] of {row.images}{refused}{late})"
    return Cell(f"{step.held} of {step.attacked}", note=note)


def _flags(row: TierRow) -> str:
    if not row.flags:
        return EMPTY.text
    return ", ".join(row.raised) if row.raised else "none"

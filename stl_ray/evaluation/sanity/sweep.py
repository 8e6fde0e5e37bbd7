"""H2 and H3: what a larger budget must do. Source: Carlini et al. 2019, section 5."""

from stl_ray.evaluation.sanity.flags import Flag, flag, not_run
from stl_ray.evaluation.sanity.probes import TOLERANCE, Probes

SWEEP = "sweep "
"""Probes of the iterated attack at one budget after the other, the smallest first: "sweep " and the size."""


def monotone(probes: Probes) -> Flag:
    """H2: a larger budget never leaves more images right."""
    title = "accuracy falls with the budget"
    names = probes.named(SWEEP)
    if len(names) < 2:
        return not_run("H2", title, "no sweep over budgets")
    counts = [int(probes.right(name).sum()) for name in names]
    rises = [(after - before, name) for before, after, name in zip(counts, counts[1:], names[1:], strict=False)]
    worst, where = max(rises)
    shares = ", ".join(f"{name.removeprefix(SWEEP)}: {count}" for name, count in zip(names, counts, strict=True))
    finding = f"right of {len(probes)} by budget: {shares}"
    if worst > 0:
        finding += f"; {worst} more at {where.removeprefix(SWEEP)} than before it"
    return flag("H2", title, finding, worst / len(probes), TOLERANCE)


def unbounded(probes: Probes, chance: float) -> Flag:
    """H3: at the largest budget no more images are right than by chance."""
    title = "a large budget breaks everything"
    names = probes.named(SWEEP)
    if not names:
        return not_run("H3", title, "no sweep over budgets")
    share = float(probes.right(names[-1]).mean())
    finding = f"{share:.3f} right at {names[-1].removeprefix(SWEEP)}, the largest budget; chance is {chance:.3f}"
    return flag("H3", title, finding, share, chance)

"""The checks H1 to H15, in order: rules over the probe table, the scores and the record of an evaluation.

Sources: Carlini et al. 2019, section 5 (H2 to H5); AutoAttack's checks (H5, H8, H10, H11); Athalye et al. 2018 (H8);
Pintor et al. 2022, indicators of attack failure (H6, H7, H9). docs/evaluation.md has the rule and the reason of every
check.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from stl_ray.evaluation.sanity.flags import Check, Flag, flag, not_run
from stl_ray.evaluation.sanity.table import Measure, Probe, ProbeTable
from stl_ray.statistics import wilson

OVER_ALLOWED = {"u8": 1e-6, "f32": 1e-3}
UNDER_ALLOWED = {"u8": 0.02, "f32": 1e-3}
"""Tolerances as shares of the budget: 8-bit images are never over and at most 2 % under, float32 images within 0.1 %."""

TOLERANCE = 0.01
"""Share of images that may contradict an order of strengths."""

FREE_MARGIN = 0.002
"""Largest drop of accuracy of a gradient-free attack below the white-box attack (AutoAttack's rule)."""

MARGIN_MOVED = 0.05
"""Largest change of the mean margin at the last doubling of the steps, over the spread of the margin."""

DIFFERENCE_ERROR = 0.01
"""Largest median relative error of the vector-Jacobian product against finite differences."""

RISING = 0.95
"""Smallest share of images whose loss rises along the gradient."""

DRAWS = 20
"""Smallest number of draws per gradient of a randomised defense."""

BATCH_GAP = 1e-3
"""Largest dependence of logits on the batch, over their spread."""

IMAGES = 1000
"""Smallest number of images of a claim; the 95 % interval is then at most 6.2 points wide."""

PROVENANCE = ("attacks", "budget", "classifier", "defense", "ids_sha256", "seed", "version")
"""Required entries of a record."""


_ONE_CLASS = "of one class no image can be misclassified"
_OF_MISCLASSIFICATION = frozenset(Check) - {
    Check.WITHIN_BUDGET, Check.RANDOMNESS, Check.LOGITS, Check.STATISTICS, Check.PROVENANCE
}  # fmt: skip


def check_all(
    probes: ProbeTable,
    *,
    chance: float,
    samples: int,
    scores: Mapping[str, Any],
    store: Literal["u8", "f32"],
    ids: frozenset[str],
    record: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """H1 to H15 of one defense, as JSON-able flags in order.

    Args:
        probes: the probe table of the defense.
        chance: accuracy of guessing.
        samples: draws per gradient of a randomised defense.
        scores: scores of the cascade, as `cascade_scores` returns them.
        store: storage of the cascade's adversarial images.
        ids: digests of the images of every defense.
        record: provenance of the evaluation.
    """
    flags = [
        within_budget(probes, scores["largest_share"], store),
        monotone_sweep(probes),
        unbounded_attack(probes, chance),
        order_of_strength(probes),
        gradients_help(probes),
        converged(probes),
        restarts(probes),
        gradient(probes),
        silent_success(probes),
        randomness(probes, samples),
        logits(probes),
        ablation(probes, chance),
        other_loss(probes),
        statistics(scores, ids),
        provenance(record),
    ]
    if chance == 1:
        flags = [not_run(item.check, _ONE_CLASS) if item.check in _OF_MISCLASSIFICATION else item for item in flags]
    return [asdict(outcome) for outcome in flags]


def within_budget(probes: ProbeTable, largest_share: float | None, store: Literal["u8", "f32"]) -> Flag:
    """H1: stored images are within their budgets, measured again in float64, by the tolerance of the storage.

    Args:
        probes: the probe table of the defense.
        largest_share: largest share of its budget that an image of the cascade uses; None: no such image.
        store: storage of the cascade's images.
    """
    over, under = probes.measured(Measure.OVER_BUDGET), probes.measured(Measure.UNDER_BUDGET)
    stray, box = probes.measured(Measure.OVER_TOLERANCE), probes.measured(Measure.OUT_OF_BOX)
    if not len(stray):
        return not_run(Check.WITHIN_BUDGET, "no stored image was measured")
    finding = (
        f"largest excess {over.max():+.1e} and largest shortfall {under.max():.1e} of the budget; {int(box.sum())} "
        "images out of the box or not finite"
    )
    values = [stray.max(), 2 * box.max()]
    if largest_share is not None:
        finding += f"; largest excess in the cascade {largest_share - 1:+.1e}"
        values.append((largest_share - 1) / OVER_ALLOWED[store])
    return flag(Check.WITHIN_BUDGET, finding, float(np.max(values)), 1.0)


def monotone_sweep(probes: ProbeTable) -> Flag:
    """H2: a larger budget never leaves more images right."""
    names = probes.named(Probe.SWEEP)
    if len(names) < 2:
        return not_run(Check.MONOTONE_SWEEP, "no sweep over budgets")
    counts = [int(probes.correct(name).sum()) for name in names]
    rises = [(after - before, name) for before, after, name in zip(counts, counts[1:], names[1:], strict=False)]
    worst, where = max(rises)
    shares = ", ".join(f"{name.removeprefix(Probe.SWEEP)}: {count}" for name, count in zip(names, counts, strict=True))
    finding = f"right of {len(probes)} by budget: {shares}"
    if worst > 0:
        finding += f"; {worst} more at {where.removeprefix(Probe.SWEEP)} than before it"
    return flag(Check.MONOTONE_SWEEP, finding, worst / len(probes), TOLERANCE)


def unbounded_attack(probes: ProbeTable, chance: float) -> Flag:
    """H3: at the largest budget, accuracy is at most chance."""
    names = probes.named(Probe.SWEEP)
    if not names:
        return not_run(Check.UNBOUNDED_ATTACK, "no sweep over budgets")
    share = float(probes.correct(names[-1]).mean())
    size = names[-1].removeprefix(Probe.SWEEP)
    finding = f"{share:.3f} right at {size}, the largest budget; chance is {chance:.3f}"
    return flag(Check.UNBOUNDED_ATTACK, finding, share, chance)


def order_of_strength(probes: ProbeTable) -> Flag:
    """H4: iterated is at least as strong as single-step, white-box as transfer and BPDA, transfer as noise."""
    pairs = [
        (Probe.SINGLE_STEP, Probe.WHITE_BOX), (Probe.TRANSFER, Probe.WHITE_BOX), (Probe.BPDA, Probe.WHITE_BOX),
        (Probe.NOISE, Probe.TRANSFER),
    ]  # fmt: skip
    counts = [(probes.broken_only_by(*pair), *pair) for pair in pairs if set(pair) <= probes.answers.keys()]
    if not counts:
        return not_run(Check.ORDER_OF_STRENGTH, "no attacks to compare")
    finding = "; ".join(
        f"{count} of {len(probes)} fall to {weaker} and not to {stronger}" for count, weaker, stronger in counts
    )
    return flag(Check.ORDER_OF_STRENGTH, finding, max(counts)[0] / len(probes), TOLERANCE)


def gradients_help(probes: ProbeTable) -> Flag:
    """H5: a gradient-free attack is not stronger than the white-box attack."""
    if not {Probe.GRADIENT_FREE, Probe.WHITE_BOX} <= probes.answers.keys():
        return not_run(Check.GRADIENTS_HELP, "no gradient-free attack was run")
    white, free = probes.correct(Probe.WHITE_BOX), probes.correct(Probe.GRADIENT_FREE)
    finding = f"{free.mean():.3f} right under the gradient-free attack, {white.mean():.3f} under the white-box one"
    return flag(Check.GRADIENTS_HELP, finding, float(white.mean() - (white & free).mean()), FREE_MARGIN)


def converged(probes: ProbeTable) -> Flag:
    """H6: doubling the steps breaks no further images and no longer moves the margin."""
    names = [Probe.WHITE_BOX, *probes.named(Probe.STEPS)]
    if len(names) < 3 or Probe.WHITE_BOX not in probes.answers:
        return not_run(Check.CONVERGED, "no run with more steps")
    shares = [float(probes.correct(name).mean()) for name in names]
    before, after = (probes.measures[f"{Measure.MARGIN}{factor}"] for factor in (2, 4))
    spread = float(np.ptp(np.concatenate([before, after])))
    moved = abs(float(after.mean() - before.mean())) / spread if spread > 0 else 0.0
    finding = (
        f"right at 1, 2 and 4 times the steps: {', '.join(f'{share:.3f}' for share in shares)}; the last doubling "
        f"moves the mean margin by {moved:.1%} of its spread"
    )
    # The larger of two values, each over its limit.
    value = max((shares[1] - shares[2]) / TOLERANCE, moved / MARGIN_MOVED)
    return flag(Check.CONVERGED, finding, value, 1.0)


def restarts(probes: ProbeTable) -> Flag:
    """H7: other starts, and half and twice the step size, break no further images."""
    names = probes.named(Probe.RETRY)
    if not names or Probe.WHITE_BOX not in probes.answers:
        return not_run(Check.RESTARTS, "no restarts")
    held = np.all([probes.correct(name) for name in names], axis=0)
    only = int((probes.correct(Probe.WHITE_BOX) & ~held).sum())
    ways = ", ".join(name.removeprefix(Probe.RETRY) for name in names)
    finding = f"{only} of {len(probes)} fall to another start or step size alone ({ways})"
    return flag(Check.RESTARTS, finding, only / len(probes), TOLERANCE)


def gradient(probes: ProbeTable) -> Flag:
    """H8: gradients are finite and not zero, agree with finite differences, and the loss rises along them."""
    zero, infinite = probes.measured(Measure.ZERO_GRADIENT), probes.measured(Measure.INFINITE_GRADIENT)
    if not len(zero):
        return not_run(Check.GRADIENT, "no gradient was taken")
    rises = float(probes.measured(Measure.LOSS_RISES).mean())
    finding = (
        f"{int(zero.sum())} zero and {int(infinite.sum())} not finite of {len(probes)}; the loss rises for {rises:.1%}"
    )
    values = [float(zero.any() or infinite.any()) * 2, (1 - rises) / (1 - RISING)]
    errors = probes.measured(Measure.DIFFERENCE_ERROR)
    if len(errors):
        median = float(np.median(errors))
        finding += f"; median error against finite differences {median:.2e} on {len(errors)} images"
        values.append(median / DIFFERENCE_ERROR)
    cosines = probes.measured(Measure.BPDA_COSINE)
    if len(cosines):
        finding += f"; mean cosine of BPDA to it {cosines.mean():.2f}"
    # The largest value, each over its limit; np.max keeps a NaN, which raises the flag.
    return flag(Check.GRADIENT, finding, float(np.max(values)), 1.0)


def silent_success(probes: ProbeTable) -> Flag:
    """H9: images that are misclassified during the attack are misclassified as stored."""
    silent = probes.measured(Measure.SILENT_SUCCESS)
    if not len(silent):
        return not_run(Check.SILENT_SUCCESS, "the attack's way was not watched")
    finding = f"{int(silent.sum())} of {len(silent)} were wrong in some step and are right on the stored image, "
    finding += "from a cold solve"
    return flag(Check.SILENT_SUCCESS, finding, float(silent.mean()), TOLERANCE)


def randomness(probes: ProbeTable, samples: int) -> Flag:
    """H10: predictions repeat from pass to pass, or gradients are means over enough draws."""
    passes = np.stack([probes.said(name) for name in probes.named(Probe.PASS)])
    changed = int((passes != passes[0]).any(0).sum())
    finding = f"{changed} of {len(probes)} answers change within {len(passes)} passes"
    if changed == 0:
        return flag(Check.RANDOMNESS, f"{finding}: the pipeline is deterministic", 0.0, 0.0)
    finding += f"; {samples} draws behind every gradient, one at the verdict"
    return flag(Check.RANDOMNESS, finding, DRAWS / samples, 1.0)


def logits(probes: ProbeTable) -> Flag:
    """H11: outputs are logits, the model is in eval mode, and no prediction depends on the batch."""
    low, high = probes.measured(Measure.LOWEST_LOGIT), probes.measured(Measure.HIGHEST_LOGIT)
    total = probes.measured(Measure.SUM_OF_LOGITS)
    probabilities = bool((low >= 0).all() and (high <= 1).all() and (np.abs(total - 1) < 1e-3).all())
    training = bool(probes.measured(Measure.TRAINING_MODE).any())
    gap = float(probes.measured(Measure.BATCH_GAP).max())
    moved = int((probes.said(Probe.ALONE) != probes.said(Probe.CLEAN)).sum())
    finding = (
        f"outputs from {low.min():.3g} to {high.max():.3g}{', which are probabilities' if probabilities else ''}; "
        f"{'training' if training else 'eval'} mode; alone they differ by {gap:.1e} of their spread, and "
        f"{moved} answers change"
    )
    value = max(2 * float(probabilities), 2 * float(training), gap / BATCH_GAP, 2 * float(moved > 0))
    return flag(Check.LOGITS, finding, value, 1.0)


def ablation(probes: ProbeTable, chance: float) -> Flag:
    """H12: without the defense the attack breaks everything; gradients through other clusters break no more."""
    if Probe.BARE_CLASSIFIER not in probes.answers:
        return not_run(Check.ABLATION, "the classifier alone was not attacked")
    bare = float(probes.correct(Probe.BARE_CLASSIFIER).mean())
    finding = f"{bare:.3f} right without the defense (chance {chance:.3f})"
    values = [bare / chance]
    if Probe.OTHER_CLUSTER in probes.answers and Probe.WHITE_BOX in probes.answers:
        only = probes.broken_only_by(Probe.OTHER_CLUSTER, Probe.WHITE_BOX)
        finding += f"; {only} of {len(probes)} fall only to gradients through another cluster"
        values.append(only / len(probes) / TOLERANCE)
    flipped = probes.measured(Measure.CLUSTER_FLIPPED)
    if len(flipped):
        finding += f"; {int(flipped.sum())} changed their cluster under the white-box attack"
    return flag(Check.ABLATION, finding, max(values), 1.0)


def other_loss(probes: ProbeTable) -> Flag:
    """H13: the margin loss breaks no further images than the cross-entropy."""
    if not {Probe.OTHER_LOSS, Probe.WHITE_BOX} <= probes.answers.keys():
        return not_run(Check.OTHER_LOSS, "no attack with another loss was run")
    only = probes.broken_only_by(Probe.OTHER_LOSS, Probe.WHITE_BOX)
    return flag(
        Check.OTHER_LOSS, f"{only} of {len(probes)} fall to the margin loss alone", only / len(probes), TOLERANCE
    )


def statistics(scores: Mapping[str, Any], ids: frozenset[str]) -> Flag:
    """H14: at least a thousand images, all of them attacked, and the same images for every defense.

    Args:
        scores: scores of the cascade, as `cascade_scores` returns them.
        ids: digests of the images, one for each defense.
    """
    images = scores["images"]
    half = wilson(images // 2, images)
    late = sum(step["out_of_time"] for step in scores["steps"])
    finding = f"{images} images; at one half the interval is {half.high - half.low:.3f} wide"
    finding += f"; {late} were not attacked in time" if late else ""
    finding += "; not the images of the other defenses" if len(ids) > 1 else ""
    value = max(IMAGES / images, 2 * float(late > 0), 2 * float(len(ids) > 1))
    return flag(Check.STATISTICS, finding, value, 1.0)


def provenance(record: Mapping[str, Any]) -> Flag:
    """H15: attacks, budget, classifier, defense, images, seed and version are on record."""
    missing = [name for name in PROVENANCE if record.get(name) in (None, "", [], {})]
    finding = f"missing: {', '.join(missing)}" if missing else f"{', '.join(PROVENANCE)} are in the row"
    return flag(Check.PROVENANCE, finding, len(missing), 0)

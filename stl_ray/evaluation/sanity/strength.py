"""H4, H5 and H13: which attacks must be at least as strong as which. Sources: Carlini et al. 2019; AutoAttack's checks."""

from stl_ray.evaluation.sanity.flags import Flag, flag, not_run
from stl_ray.evaluation.sanity.probes import TOLERANCE, Probes

WHITE_BOX = "white-box"
"""The iterated attack with the strongest gradient that the defense has, at the budget."""

SINGLE_STEP, TRANSFER, BPDA, NOISE, GRADIENT_FREE, OTHER_LOSS = (
    "single step", "transfer", "BPDA", "noise", "gradient-free", "other loss",
)  # fmt: skip

FREE_MARGIN = 0.002
"""By how much a gradient-free attack may lower accuracy below the white-box one's (AutoAttack's rule)."""


def order(probes: Probes) -> Flag:
    """H4: iterated is at least as strong as single-step, white-box as transfer and BPDA, transfer as noise."""
    title = "stronger attacks are stronger"
    pairs = [(SINGLE_STEP, WHITE_BOX), (TRANSFER, WHITE_BOX), (BPDA, WHITE_BOX), (NOISE, TRANSFER)]
    found = [(probes.fall_to_weaker(*pair), *pair) for pair in pairs if set(pair) <= probes.answers.keys()]
    if not found:
        return not_run("H4", title, "no attacks to compare")
    finding = "; ".join(
        f"{count} of {len(probes)} fall to {weaker} and not to {stronger}" for count, weaker, stronger in found
    )
    return flag("H4", title, finding, max(found)[0] / len(probes), TOLERANCE)


def gradient_free(probes: Probes) -> Flag:
    """H5: an attack without gradients finds no more than the one with them."""
    title = "gradients help"
    if not {GRADIENT_FREE, WHITE_BOX} <= probes.answers.keys():
        return not_run("H5", title, "no gradient-free attack was run")
    white, free = probes.right(WHITE_BOX), probes.right(GRADIENT_FREE)
    finding = f"{free.mean():.3f} right under the gradient-free attack, {white.mean():.3f} under the white-box one"
    return flag("H5", title, finding, float(white.mean() - (white & free).mean()), FREE_MARGIN)


def losses(probes: Probes) -> Flag:
    """H13: another loss finds no more than the cross-entropy."""
    title = "the loss is not the obstacle"
    if not {OTHER_LOSS, WHITE_BOX} <= probes.answers.keys():
        return not_run("H13", title, "no attack with another loss was run")
    only = probes.fall_to_weaker(OTHER_LOSS, WHITE_BOX)
    return flag("H13", title, f"{only} of {len(probes)} fall to the margin loss alone", only / len(probes), TOLERANCE)

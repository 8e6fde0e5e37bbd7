"""H6, H7 and H9: whether the attack was given enough. Source: Pintor et al. 2022, indicators of attack failure."""

import numpy as np

from stl_ray.evaluation.sanity.flags import Flag, flag, not_run
from stl_ray.evaluation.sanity.probes import TOLERANCE, Probes
from stl_ray.evaluation.sanity.strength import WHITE_BOX

STEPS, RETRY, LOSS, SILENT = "steps x", "retry ", "margin at steps x", "silent success"
"""Probes with twice and four times the steps, those from other starts and with other steps, and measures."""

MOVED = 0.05
"""Share of the margin's spread over the images by which the last doubling may move its mean."""


def steps(probes: Probes) -> Flag:
    """H6: twice the steps find no more, and the margin has settled."""
    title = "the attack has converged"
    names = [WHITE_BOX, *probes.named(STEPS)]
    if len(names) < 3 or WHITE_BOX not in probes.answers:
        return not_run("H6", title, "no run with more steps")
    shares = [float(probes.right(name).mean()) for name in names]
    before, after = (probes.measures[f"{LOSS}{factor}"] for factor in (2, 4))
    spread = float(np.ptp(np.concatenate([before, after])))
    moved = abs(float(after.mean() - before.mean())) / spread if spread > 0 else 0.0
    finding = (
        f"right at 1, 2 and 4 times the steps: {', '.join(f'{share:.3f}' for share in shares)}; the last doubling moves the "
        f"mean margin by {moved:.1%} of its spread"
    )
    # The larger of the two, each as a share of what it may be.
    value = max((shares[1] - shares[2]) / TOLERANCE, moved / MOVED)
    return flag("H6", title, finding, value, 1.0)


def retries(probes: Probes) -> Flag:
    """H7: other starts and steps of half and twice the length find no more; what they find counts in the worst case."""
    title = "restarts and step sizes change little"
    names = probes.named(RETRY)
    if not names or WHITE_BOX not in probes.answers:
        return not_run("H7", title, "no restarts")
    held = np.all([probes.right(name) for name in names], axis=0)
    only = int((probes.right(WHITE_BOX) & ~held).sum())
    finding = f"{only} of {len(probes)} fall to another start or step size alone ({', '.join(n.removeprefix(RETRY) for n in names)})"
    return flag("H7", title, finding, only / len(probes), TOLERANCE)


def silent(probes: Probes) -> Flag:
    """H9: where the pipeline was wrong on the attack's way, it is wrong on what is stored."""
    title = "no success is lost on the way"
    found = probes.measured(SILENT)
    if not len(found):
        return not_run("H9", title, "the attack's way was not watched")
    finding = f"{int(found.sum())} of {len(found)} were wrong in some step and are right on the stored image, from a cold solve"
    return flag("H9", title, finding, float(found.mean()), TOLERANCE)

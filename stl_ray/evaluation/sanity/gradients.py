"""H8: whether the gradients are those of the pipeline. Sources: Athalye et al. 2018; AutoAttack's checks."""

import numpy as np

from stl_ray.evaluation.sanity.flags import Flag, flag, not_run
from stl_ray.evaluation.sanity.probes import Probes

ZERO, NOT_FINITE, DIFFERENCE, RISES, COSINE = (
    "gradient is zero", "gradient is not finite", "finite difference error", "loss rises", "cosine of BPDA to exact",
)  # fmt: skip

ERROR = 0.01
"""Largest median relative error of the vector-Jacobian product against finite differences."""

RISING = 0.95
"""Least share of images whose loss rises along the gradient."""


def gradient_check(probes: Probes) -> Flag:
    """H8: none is zero or not finite, they agree with finite differences, and the loss rises along them."""
    title = "gradients are right"
    if not len(probes.measured(ZERO)):
        return not_run("H8", title, "no gradient was taken")
    zero, lost = int(probes.measured(ZERO).sum()), int(probes.measured(NOT_FINITE).sum())
    rises = float(probes.measured(RISES).mean())
    finding = f"{zero} zero and {lost} not finite of {len(probes)}; the loss rises for {rises:.1%}"
    shares = [float(zero + lost > 0) * 2, (1 - rises) / (1 - RISING)]
    errors = probes.measured(DIFFERENCE)
    if len(errors):
        median = float(np.median(errors))
        finding += f"; median error against finite differences {median:.2e} on {len(errors)} images"
        shares.append(median / ERROR)
    cosines = probes.measured(COSINE)
    if len(cosines):
        finding += f"; mean cosine of BPDA to it {cosines.mean():.2f}"
    # The largest, each as a share of what it may be; a NaN among them is no number to pass with.
    return flag("H8", title, finding, float(np.max(shares)), 1.0)

"""H1: whether every stored image is within its budget, by the tolerance of how it is stored."""

from typing import Literal

import numpy as np

from stl_ray.evaluation.sanity.flags import Flag, flag, not_run
from stl_ray.evaluation.sanity.probes import Probes

OVER, UNDER, STRAY, BOX = "over budget", "under budget", "over tolerance", "out of the box"
"""Measures: the largest excess and the largest shortfall over an image's attacks, as shares of the budget; the larger of
the two over its tolerance; and whether a pixel was out of [0, 1] or not finite. An attack that could not reach its budget,
and one that may stay below it, has no shortfall."""

OVER_ALLOWED = {"u8": 1e-6, "f32": 1e-3}
UNDER_ALLOWED = {"u8": 0.02, "f32": 1e-3}
"""8-bit images are never over and at most 2 % under; float32 ones hit the budget within 0.1 %."""


def within_budget(probes: Probes, largest_share: float | None, store: Literal["u8", "f32"]) -> Flag:
    """H1: re-measured as stored, in float64, by the tolerance of how each is stored.

    Args:
        probes: of the defense.
        largest_share: of the budget that an image of the cascade uses; None: there is none.
        store: what these are stored as.
    """
    title = "every image is within its budget"
    over, under, stray, box = (probes.measured(name) for name in (OVER, UNDER, STRAY, BOX))
    if not len(stray):
        return not_run("H1", title, "no stored image was measured")
    finding = (
        f"largest excess {over.max():+.1e} and largest shortfall {under.max():.1e} of the budget; {int(box.sum())} images out "
        "of the box or not finite"
    )
    values = [stray.max(), 2 * box.max()]
    if largest_share is not None:
        finding += f"; largest excess in the cascade {largest_share - 1:+.1e}"
        values.append((largest_share - 1) / OVER_ALLOWED[store])
    return flag("H1", title, finding, float(np.max(values)), 1.0)

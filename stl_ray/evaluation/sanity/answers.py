"""H10 and H11: whether the pipeline answers the same question twice in the same way, and with logits.

Sources: AutoAttack's checks for randomised defenses and for outputs that are probabilities.
"""

import numpy as np

from stl_ray.evaluation.sanity.flags import Flag, State, flag
from stl_ray.evaluation.sanity.probes import Probes

PASS, ALONE = "pass ", "alone"
"""Probes of the clean image: asked again with other draws, and asked in a batch of one."""

LOW, HIGH, SUM, GAP, TRAINING = "smallest logit", "largest logit", "sum of logits", "logits alone", "in training mode"

DRAWS = 20
"""Draws behind every gradient that a randomised defense is to be attacked with."""

MOST_GAP = 1e-3
"""By which share of their spread logits may depend on the batch."""


def randomness(probes: Probes, samples: int) -> Flag:
    """H10: the answers do not change from pass to pass, or the gradients were means over enough draws."""
    title = "randomness is averaged over"
    passes = np.stack([probes.answers[name] for name in probes.named(PASS)])
    changed = int((passes != passes[0]).any(0).sum())
    finding = f"{changed} of {len(probes)} answers change within {len(passes)} passes"
    if changed == 0:
        return Flag("H10", title, State.PASSED, f"{finding}: the pipeline is deterministic", 0.0, 0.0)
    finding += f"; {samples} draws behind every gradient, one at the verdict"
    return flag("H10", title, finding, DRAWS / samples, 1.0)


def logits(probes: Probes) -> Flag:
    """H11: the outputs are logits, the model is in eval mode, and no answer depends on the batch."""
    title = "outputs are logits of the image alone"
    low, high, total = (probes.measured(name) for name in (LOW, HIGH, SUM))
    probabilities = bool((low >= 0).all() and (high <= 1).all() and (np.abs(total - 1) < 1e-3).all())
    training = bool(probes.measured(TRAINING).any())
    gap = float(probes.measured(GAP).max())
    moved = int((probes.answers[ALONE] != probes.answers["clean"]).sum())
    finding = (
        f"outputs from {low.min():.3g} to {high.max():.3g}{', which are probabilities' if probabilities else ''}; "
        f"{'training' if training else 'eval'} mode; alone they differ by {gap:.1e} of their spread, and {moved} answers change"
    )
    value = max(2 * float(probabilities), 2 * float(training), gap / MOST_GAP, 2 * float(moved > 0))
    return flag("H11", title, finding, value, 1.0)

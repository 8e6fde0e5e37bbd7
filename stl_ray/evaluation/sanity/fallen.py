"""What the checks themselves found within the budget: their attacks are attacks, and count in the worst case."""

from stl_ray.attacks import Budget
from stl_ray.evaluation.sanity import ablations, convergence, strength
from stl_ray.evaluation.sanity.probes import Probes
from stl_ray.evaluation.sanity.sweep import SWEEP

AT_THE_BUDGET = (
    strength.WHITE_BOX, strength.SINGLE_STEP, strength.NOISE, strength.TRANSFER, strength.BPDA, strength.OTHER_LOSS,
    strength.GRADIENT_FREE, ablations.OTHER_CLUSTER,
)  # fmt: skip


def broken_images(probes: Probes, budget: Budget) -> dict[str, int]:
    """By id, a class that an attack of the checks within the budget made of the image; its own where none did."""
    names = [name for name in AT_THE_BUDGET if name in probes.answers]
    names += [*probes.named(convergence.STEPS), *probes.named(convergence.RETRY)]
    names += [name for name in probes.named(SWEEP) if float(name.removeprefix(SWEEP)) <= float(f"{budget.size:g}")]
    found = probes.labels.copy()
    for name in reversed(names):
        wrong = ~probes.right(name)
        found[wrong] = probes.answers[name][wrong]
    return dict(zip(probes.ids, found.tolist(), strict=True))

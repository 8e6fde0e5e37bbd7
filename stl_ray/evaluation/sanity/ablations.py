"""H12: the same attack without the defense, and through other clusters than the predicted one."""

from stl_ray.evaluation.sanity.flags import Flag, flag, not_run
from stl_ray.evaluation.sanity.probes import TOLERANCE, Probes
from stl_ray.evaluation.sanity.strength import WHITE_BOX

UNDEFENDED, OTHER_CLUSTER, FLIPPED = "undefended", "other cluster", "cluster flipped"
"""A probe of the classifier alone under its own white-box attack, one through other clusters, and a measure."""


def without_the_defense(probes: Probes, chance: float) -> Flag:
    """H12: without the defense the attack leaves nothing; supposing another cluster finds no more."""
    title = "the attack breaks what is undefended"
    if UNDEFENDED not in probes.answers:
        return not_run("H12", title, "the classifier alone was not attacked")
    bare = float(probes.right(UNDEFENDED).mean())
    finding = f"{bare:.3f} right without the defense (chance {chance:.3f})"
    values = [bare / chance]
    if OTHER_CLUSTER in probes.answers and WHITE_BOX in probes.answers:
        only = probes.fall_to_weaker(OTHER_CLUSTER, WHITE_BOX)
        finding += f"; {only} of {len(probes)} fall only to gradients through another cluster"
        values.append(only / len(probes) / TOLERANCE)
    flipped = probes.measured(FLIPPED)
    if len(flipped):
        finding += f"; {int(flipped.sum())} changed their cluster under the white-box attack"
    return flag("H12", title, finding, max(values), 1.0)

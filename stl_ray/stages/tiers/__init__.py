"""The second half of evaluate: every defense under the attacks of the tiers, and the checks on these.

setting   what is attacked, on how many images, and what the two kinds of work share
verdicts  the attacks of the tiers: every verdict is stored, their images are not
probes    what the sanity checks look at
scores    the part of scores.json that speaks of the tiers
"""

from stl_ray.stages.tiers.probes import plan_checks
from stl_ray.stages.tiers.scores import headline, tier_scores
from stl_ray.stages.tiers.verdicts import plan_tiers

__all__ = ["headline", "plan_checks", "plan_tiers", "tier_scores"]

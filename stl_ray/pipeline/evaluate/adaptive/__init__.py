"""ADAPTIVE: the second half of `evaluate`: every defense under attacks that know of it, and the checks on these.

context    what the attacks and the checks share: defenses, images, identities
verdicts   the attacks: every verdict is stored, their images are not
checks     the probes that the sanity checks read
scores     the part of scores.json that speaks of these attacks
"""

from stl_ray.pipeline.evaluate.adaptive.checks import plan_checks
from stl_ray.pipeline.evaluate.adaptive.context import Context
from stl_ray.pipeline.evaluate.adaptive.scores import headline, stored_tier_scores
from stl_ray.pipeline.evaluate.adaptive.verdicts import plan_tiers

__all__ = ["Context", "headline", "plan_checks", "plan_tiers", "stored_tier_scores"]

"""EVALUATION: what predictions amount to. Pure functions over tables, and the attacks whose verdicts fill them.

predictions  the table of one (defense, attack set), and that all tables speak of the same images
scores       counts, intervals, paired comparisons: the content of scores.json
attacks      what every attack set achieved, counted
threats      the tiers of what an attacker knows
tiers        the table of a defense's verdicts under every attack on it, and the worst case over them
budget_usage the share of its budget that an image uses
cascade      the attacks on a defended classifier, cheap ones first, each on the survivors
cost_model   upper bound on the passes of attacks and checks, from a stub model
sanity       whether an evaluation is to be believed: the checks H1 to H15
"""

from stl_ray.evaluation.attacks import ATTACK_COLUMNS, attack_summaries
from stl_ray.evaluation.cascade import CascadeAttack, CascadeSettings, run_cascade
from stl_ray.evaluation.predictions import NO_VERDICT, PREDICTIONS_SCHEMA
from stl_ray.evaluation.scores import UNDEFENDED, Comparison, Score, Setting, score
from stl_ray.evaluation.threats import GREY_BOX, KNOWLEDGE, ThreatTier, threat_of
from stl_ray.evaluation.tiers import VERDICTS_SCHEMA, cascade_scores, fixed_ids, with_further

__all__ = [
    "ATTACK_COLUMNS",
    "GREY_BOX",
    "KNOWLEDGE",
    "NO_VERDICT",
    "PREDICTIONS_SCHEMA",
    "UNDEFENDED",
    "VERDICTS_SCHEMA",
    "CascadeAttack",
    "CascadeSettings",
    "Comparison",
    "Score",
    "Setting",
    "ThreatTier",
    "attack_summaries",
    "cascade_scores",
    "fixed_ids",
    "run_cascade",
    "score",
    "threat_of",
    "with_further",
]

"""EVALUATION: scores of predictions, attacks on defended classifiers, and sanity checks. Pure functions over tables.

predictions  the prediction table of one (defense, attack set); alignment of all tables on the same images
scores       counts, intervals, paired comparisons: the content of scores.json
attacks      summaries of attack sets
tiers        the verdict table of a defense, scores per attack, and the worst case
budget_usage the share of its budget that an image uses
cascade      attacks on a defended classifier, cheap ones first, each on the survivors
cost_model   upper bound on the passes of attacks and checks, from a stub model
sanity       the checks H1 to H15: whether an evaluation is to be believed
"""

from stl_ray.evaluation.attacks import ATTACK_COLUMNS, attack_summaries
from stl_ray.evaluation.cascade import CascadeAttack, CascadeSettings, run_cascade
from stl_ray.evaluation.predictions import PREDICTIONS_SCHEMA
from stl_ray.evaluation.scores import UNDEFENDED, Comparison, Score, Setting, score
from stl_ray.evaluation.tiers import VERDICTS_SCHEMA, cascade_scores, fixed_ids, with_further

__all__ = [
    "ATTACK_COLUMNS",
    "PREDICTIONS_SCHEMA",
    "UNDEFENDED",
    "VERDICTS_SCHEMA",
    "CascadeAttack",
    "CascadeSettings",
    "Comparison",
    "Score",
    "Setting",
    "attack_summaries",
    "cascade_scores",
    "fixed_ids",
    "run_cascade",
    "score",
    "with_further",
]

"""EVALUATION: scores of predictions, attacks on defended classifiers, and sanity checks. Pure functions over tables.

predictions  the prediction table of one (defense, attack set); alignment of all tables on the same images
scores       counts, intervals, paired comparisons: the content of scores.json
shares       numbers of images among others, with intervals
subgroups    scores of the images of each cluster
judging      rows of predictions: the decisions on a batch
attacks      summaries of attack sets
batches      images of any sizes as batches of images of one size
defended     a defense with a classifier behind it
draws        a randomised defense, drawn again and again
perturbations  perturbations before and behind a defense
tiers        the verdict table of a defense, scores per attack, and the worst case
budget_usage the share of its budget that an image uses
cascade      attacks on a defended classifier, cheap ones first, each on the survivors
tier_attacks what the configuration of the tiers asks for
tier_scores  verdicts and probes of every defense, scored
cost_model   upper bound on the passes of attacks and checks, from a stub model
sanity       the checks H1 to H15: whether an evaluation is to be believed
"""

from stl_ray.evaluation.attacks import ATTACK_COLUMNS, attack_summaries
from stl_ray.evaluation.cascade import CascadeAttack, CascadeSettings, run_cascade, verdict_rows
from stl_ray.evaluation.defended import DefendedClassifier
from stl_ray.evaluation.draws import DRAWS_SCHEMA, draw_scores, drawn
from stl_ray.evaluation.judging import judged
from stl_ray.evaluation.perturbations import PERTURBATIONS_SCHEMA, perturbation_scores, perturbations
from stl_ray.evaluation.predictions import PREDICTIONS_SCHEMA, TABLES_VERSION
from stl_ray.evaluation.scores import UNDEFENDED, Comparison, Score, Setting, score
from stl_ray.evaluation.tier_scores import tier_scores
from stl_ray.evaluation.tiers import VERDICTS_SCHEMA, cascade_scores, fixed_ids, with_further

__all__ = [
    "ATTACK_COLUMNS",
    "DRAWS_SCHEMA",
    "PERTURBATIONS_SCHEMA",
    "PREDICTIONS_SCHEMA",
    "TABLES_VERSION",
    "UNDEFENDED",
    "VERDICTS_SCHEMA",
    "CascadeAttack",
    "CascadeSettings",
    "Comparison",
    "DefendedClassifier",
    "Score",
    "Setting",
    "attack_summaries",
    "cascade_scores",
    "draw_scores",
    "drawn",
    "fixed_ids",
    "judged",
    "perturbation_scores",
    "perturbations",
    "run_cascade",
    "score",
    "tier_scores",
    "verdict_rows",
    "with_further",
]

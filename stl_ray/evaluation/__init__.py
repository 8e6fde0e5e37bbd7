"""EVALUATION: what predictions amount to. Pure functions over tables; knows no network and no image.

predictions  the table of one (defense, attack set), and that all tables speak of the same images
scores       counts, intervals, paired comparisons: the content of scores.json
attacks      what every attack set achieved, counted
threats      the tier of knowledge under which an attack set was made
"""

from stl_ray.evaluation.attacks import attack_summaries
from stl_ray.evaluation.predictions import NO_VERDICT, PREDICTIONS_SCHEMA
from stl_ray.evaluation.scores import UNDEFENDED, Comparison, Score, Setting, score
from stl_ray.evaluation.threats import ThreatTier, threat_of

__all__ = [
    "NO_VERDICT",
    "PREDICTIONS_SCHEMA",
    "UNDEFENDED",
    "Comparison",
    "Score",
    "Setting",
    "ThreatTier",
    "attack_summaries",
    "score",
    "threat_of",
]

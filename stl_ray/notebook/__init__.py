"""NOTEBOOK: attack and evaluate in one process, without Ray and without files, by the functions that the jobs are made of.

inputs       images and labels as a caller has them -> stored images, as `ingest` stores them
model        a torch module, a classifier or any victim -> a victim that was looked at
asked        defenses, attacks and tiers as the YAML has them -> sections and defenses
detectors    training images, on which detectors are calibrated
session      what one call works with
progress     a bar
crafting     the adversarial sets; `attack`
adversarial  what `attack` returns
scoring      every defense on every set; `evaluate`
tiers        every defense under attacks that know of it, and the checks on these
result       what `evaluate` returns: tables, plots, data frames

An image's predictions, statuses and verdicts are those of the jobs, for the same image, id, seed and number of threads.
"""

from stl_ray.notebook.adversarial import Adversarial, AdversarialSet
from stl_ray.notebook.crafting import attack
from stl_ray.notebook.result import Evaluation
from stl_ray.notebook.scoring import evaluate

__all__ = ["Adversarial", "AdversarialSet", "Evaluation", "attack", "evaluate"]

"""SANITY: whether an evaluation is to be believed. Fifteen checks; each is passed or raised by rules over figures.

checks   H1 to H15, in order
flags    name, title and outcome of a check
table    the probe table that the checks read, and the images that the checks' attacks broke
probing  fills the table: clean queries, gradients, attacks, measurements
attacks  the attacks of the checks

A raised flag is shown on the row and voids its claim. docs/evaluation.md has the rule and the reason of every check.
"""

from stl_ray.evaluation.sanity.attacks import Subject
from stl_ray.evaluation.sanity.checks import check_all
from stl_ray.evaluation.sanity.flags import Check, Flag, State
from stl_ray.evaluation.sanity.probing import FINITE_DIFFERENCES, Stored, probe
from stl_ray.evaluation.sanity.table import PROBES_SCHEMA, Measure, Probe, ProbeTable, broken_images

__all__ = [
    "FINITE_DIFFERENCES",
    "PROBES_SCHEMA",
    "Check",
    "Flag",
    "Measure",
    "Probe",
    "ProbeTable",
    "State",
    "Stored",
    "Subject",
    "broken_images",
    "check_all",
    "probe",
]

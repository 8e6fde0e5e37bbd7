"""ATTACKS: adversarial images against a classifier, held to the budget of every image and measured as stored.

base      the frame that no method can step out of: checks, budget, 8-bit storage, measurement
sizing    a direction becomes the 8-bit image at its budget
registry  the methods by name, one file each (fgsm, bim)

An attack sees a classifier only through `stl_ray.models.Victim`.
"""

from stl_ray.attacks.base import Attack, AttackResult, AttackStatus
from stl_ray.attacks.registry import ATTACKS, make_attack

__all__ = ["ATTACKS", "Attack", "AttackResult", "AttackStatus", "make_attack"]

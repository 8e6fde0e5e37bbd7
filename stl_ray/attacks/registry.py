"""Registry of attacks by name: a new attack is one file and one row."""

from collections.abc import Mapping
from typing import Literal

from stl_ray.attacks.apgd import AutoProjectedGradient, AutoProjectedGradientDlr, TargetedAutoProjectedGradient
from stl_ray.attacks.autoattack import AutoAttack
from stl_ray.attacks.base import Attack
from stl_ray.attacks.bim import BasicIterative
from stl_ray.attacks.carlini_wagner import CarliniWagner
from stl_ray.attacks.deepfool import DeepFool
from stl_ray.attacks.fab import FastAdaptiveBoundary, TargetedFastAdaptiveBoundary
from stl_ray.attacks.fgsm import FastGradientSign
from stl_ray.attacks.foolbox_engine import foolbox_attack
from stl_ray.attacks.noise import RandomNoise
from stl_ray.attacks.pgd import ProjectedGradient
from stl_ray.attacks.square import Square
from stl_ray.attacks.universal import UniversalDeepFool, UniversalGradient
from stl_ray.options import named, with_options

ATTACKS: dict[str, type[Attack]] = {
    "fgsm": FastGradientSign,
    "bim": BasicIterative,
    "pgd": ProjectedGradient,
    "apgd": AutoProjectedGradient,
    "apgd_dlr": AutoProjectedGradientDlr,
    "apgd_t": TargetedAutoProjectedGradient,
    "autoattack": AutoAttack,
    "deepfool": DeepFool,
    "cw": CarliniWagner,
    "fab": FastAdaptiveBoundary,
    "fab_t": TargetedFastAdaptiveBoundary,
    "square": Square,
    "uap": UniversalDeepFool,
    "uap_gradient": UniversalGradient,
    "noise": RandomNoise,
}


def make_attack(name: str, options: Mapping[str, object], engine: Literal["native", "foolbox"] = "native") -> Attack:
    """The attack of the given name with its options.

    Args:
        name: a key of `ATTACKS`, or the class name of a Foolbox attack.
        options: options of the attack; for Foolbox the constructor's arguments.
        engine: implementation, this package's or Foolbox's.

    Raises:
        ConfigError: if the name or an option is unknown, an option has the wrong type or range, or the engine is not
            installed.
    """
    if engine == "foolbox":
        return foolbox_attack(name, options)
    return with_options(named(ATTACKS, name, kind="attack"), options, item=name)

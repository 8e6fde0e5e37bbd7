"""Defenses, attacks and tiers as a caller gives them: the values of the YAML, its sections, names, or defenses themselves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, Field, model_validator

from stl_ray.attacks import Universal, budget_of, make_attack
from stl_ray.config import AttackedConfig, NamedAttack, NamedDefense, SolverConfig, TiersConfig, parsed
from stl_ray.config.base import Section
from stl_ray.config.classifiers import is_function
from stl_ray.config.spaces import is_authors_file
from stl_ray.defenses import DEFENSES, Defense, FittedOptions, Transformation, make_defense, options_of
from stl_ray.errors import ConfigError
from stl_ray.evaluation import UNDEFENDED
from stl_ray.models import Classifier
from stl_ray.options import require_known
from stl_ray.space import QuasiNaturalSpace, imported_space
from stl_ray.store import find_space
from stl_ray.store.layout import CLEAN

_GIVEN = {
    "space": "a QuasiNaturalSpace, or the path of one or of an authors' .npy",
    "classifier": "a stl_ray.models.Classifier in eval mode",
}
"""Options by which a defense is given what an experiment has under a name; in words, what each may be."""


class Asked(Section):
    """What is asked for, by the keys of the YAML."""

    defenses: tuple[NamedDefense, ...] = ()
    attacks: tuple[NamedAttack, ...] = ()
    tiers: TiersConfig | None = None
    sanity: Literal["quick", "full"] = "quick"
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        tiers = () if self.tiers is None else self.tiers.attacks
        for kind, taken, given in (
            ("defenses", UNDEFENDED, [item.name for item in self.defenses]),
            (
                "attacks and those of the tiers",
                CLEAN,
                [item.name for item in self.attacks] + [item.name for item in tiers],
            ),
        ):
            names = [name.casefold() for name in given]
            if len(set(names)) != len(names) or taken in names:
                raise ValueError(f"{kind} need names that differ, and {taken!r} is taken; got {', '.join(names)}")
        return self


@dataclass(frozen=True)
class Request:
    """What is asked for, checked, and the defenses themselves.

    Attributes:
        asked: the sections.
        defenses: by name, "none" first.
    """

    asked: Asked
    defenses: dict[str, Defense]

    @property
    def needs_gradient(self) -> bool:
        """Whether some attack or check differentiates the model."""
        tiers = () if self.asked.tiers is None else self.asked.tiers.attacks
        return (
            any(_differentiates(item) for item in self.asked.attacks)
            or any(item.tier != "T5" for item in tiers)
            or (bool(tiers) and bool(self.asked.defenses))  # the checks
        )


def request_of(
    defenses: Iterable[object], attacks: Iterable[object], tiers: object, sanity: str, seed: int, device: str
) -> Request:
    """The request of a call with these arguments of `stl_ray.evaluate`; defenses are made for a device.

    Raises:
        ConfigError: a name, an option or a budget is wrong, or needs what only an experiment has.
        ArtifactError, DictionaryError: a space cannot be read.
    """
    entries = [_entry(item) for item in _listed(defenses, "defenses")]
    values = {
        "defenses": [values for values, _ in entries],
        "attacks": [_plain(item, f"attacks.{number}") for number, item in enumerate(_listed(attacks, "attacks"))],
        "tiers": None if tiers is None else _plain(tiers, "tiers"),
        "sanity": sanity,
        "seed": seed,
    }
    asked = parsed(Asked, values)
    _check(asked)
    made: dict[str, Defense] = {}
    # Those that are made of others come after these.
    for item, (_, given) in sorted(zip(asked.defenses, entries, strict=True), key=lambda pair: bool(_members(pair[0]))):
        made[item.name] = given if isinstance(given, Defense) else _made(item, given, made, device)
    return Request(
        asked, {UNDEFENDED: make_defense(UNDEFENDED, {}, {}), **{d.name: made[d.name] for d in asked.defenses}}
    )


def _members(item: NamedDefense) -> tuple[str, ...]:
    return options_of(item.defense, item.options).members if item.defense in DEFENSES else ()


def _listed(items: Iterable[object], kind: str) -> list[object]:
    if isinstance(items, str | Mapping | BaseModel) or not isinstance(items, Iterable):
        raise ConfigError("not a list", item=kind, expected=f"[...] of {kind}", got=type(items).__name__)
    return list(items)


def _plain(item: object, key: str) -> dict[str, Any]:
    if isinstance(item, BaseModel):
        return item.model_dump(mode="json")
    if isinstance(item, Mapping):
        return dict(item)
    raise ConfigError("not an entry of the YAML", item=key, expected="a mapping", got=type(item).__name__)


def _entry(item: object) -> tuple[dict[str, Any], Defense | Mapping[str, object]]:
    """The entry of a defense as the YAML would have it; and the defense, or what it is made with, where the caller gives it."""
    if isinstance(item, Defense):
        return {"name": item.name, "defense": item.name}, item
    if isinstance(item, str):
        return {"name": item, "defense": item}, {}
    values = _plain(item, "defenses")
    if isinstance(values.get("defense"), Defense):
        given = values["defense"]
        return {**values, "defense": given.name}, given
    options, defense = values.get("options"), values.get("defense")
    if not isinstance(options, Mapping) or not isinstance(defense, str) or not _GIVEN.keys() & options.keys():
        return values, {}
    if is_function(defense):  # whose options are its own, whatever they are called
        return values, {}
    # Nor is given what the defense can be made without, such as the classifier that another job fits it with.
    as_named = {name: str(value) if name in _GIVEN else value for name, value in options.items()}
    requires = options_of(defense, as_named).requires
    given = {name: options[name] for name in _GIVEN if name in options and name in requires}
    return {**values, "options": {name: value for name, value in options.items() if name not in given}}, given


def _made(item: NamedDefense, given: Mapping[str, object], others: Mapping[str, Defense], device: str) -> Defense:
    options = options_of(item.defense, item.options)
    for name in _GIVEN:
        if name in options.requires and given.get(name) is None:
            raise ConfigError(
                f"the defense needs a {name}", item=item.name, expected=f"options: {{'{name}': {_GIVEN[name]}}}"
            )
    for name in options.members:
        known = [other for other, defense in others.items() if isinstance(defense, Transformation)]
        require_known(name, known, kind=f"defense that transforms images, of {item.name}")
    resources: dict[str, Any] = {
        "solver": SolverConfig().method,
        "members": {name: others[name] for name in options.members},
    }
    if "space" in options.requires:
        resources["space"] = _space(given["space"], item.name).to(device)
    if "classifier" in options.requires:
        resources["classifier"] = _classifier(given["classifier"], item.name, device)
    if isinstance(options, FittedOptions):
        if options.load is None:
            expected = "options: {'load': the folder of an artifact that the job `fit` made}"
            raise ConfigError("the defense is fitted to training images", item=item.name, expected=expected)
        resources["artifact"] = options.recipe.load(options.load)
    return make_defense(item.defense, item.options, resources)


def _classifier(given: object, item: str, device: str) -> Classifier:
    if not isinstance(given, Classifier):
        raise ConfigError(
            "not a classifier", item=f"{item}.classifier", expected=_GIVEN["classifier"], got=type(given).__name__
        )
    if given.training:
        raise ConfigError("a classifier in training mode", item=f"{item}.classifier", expected="eval() of it first")
    if given.mean.device != torch.device(device):
        raise ConfigError(
            "a classifier on another device than the images", item=f"{item}.classifier", expected=f"to({device!r}) of it first",
            got=given.mean.device,
        )  # fmt: skip
    return given


def _space(given: object, item: str) -> QuasiNaturalSpace:
    if isinstance(given, QuasiNaturalSpace):
        return given
    if not isinstance(given, str | PathLike):
        expected = "a QuasiNaturalSpace, or the path of one"
        raise ConfigError("not a space", item=f"{item}.space", expected=expected, got=type(given).__name__)
    place = str(fspath(given))
    if is_authors_file(place):
        return imported_space(place)
    return QuasiNaturalSpace.load(find_space(place))


def _check(asked: Asked) -> None:
    """Refuse what no attack can do, or what only an experiment has."""
    defenses = [item.name for item in asked.defenses]
    for item in asked.attacks:
        method = make_attack(item.attack, item.options, item.engine)
        if isinstance(method, Universal):
            message = "one vector for all images is learned from training images, which only an experiment has"
            raise ConfigError(message, item=item.name, expected="the job `attack`, or another attack")
        method.check(budget_of(item), item.store)
        default = AttackedConfig()
        others = {"defense": item.victim.defense, "gradient": item.victim.gradient, "samples": item.victim.samples}
        if item.victim != default.model_copy(update=others):
            expected = "the given model, alone or behind a defense"
            raise ConfigError("another classifier than the given model", item=f"{item.name}.victim", expected=expected)
        if item.victim.defense is not None:
            require_known(item.victim.defense, defenses, kind="defense")
    if asked.tiers is None:
        return
    if asked.tiers.substitute is not None:
        message = "a substitute is another experiment, with classifiers of its own"
        raise ConfigError(message, item="tiers.substitute", expected="the job `evaluate`")
    for attack in asked.tiers.attacks:
        if attack.tier == "T2":
            raise ConfigError("T2 transfers from another experiment", item=attack.name, expected="the job `evaluate`")
        method = make_attack(attack.attack, attack.options, attack.engine)
        try:
            method.check(budget_of(asked.tiers.budget), asked.tiers.budget.store)
        except ConfigError as error:
            raise ConfigError(error.message, item=attack.name, expected=error.expected, got=error.got) from error


def _differentiates(item: NamedAttack) -> bool:
    queries_alone = item.victim.defense is not None and item.victim.gradient == "none"
    return make_attack(item.attack, item.options, item.engine).needs_gradient and not queries_alone

"""Checks before any work: names that no registry knows, options that do not fit, names that would share a folder."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from stl_ray.attacks import Universal, make_attack
from stl_ray.config import Experiment
from stl_ray.defenses import check_defense
from stl_ray.errors import ConfigError
from stl_ray.evaluation import UNDEFENDED
from stl_ray.models import check_classifier
from stl_ray.pipeline.attack.target import check_target
from stl_ray.pipeline.budgets import budget_of
from stl_ray.store import Layout
from stl_ray.store.layout import CLEAN


def preflight(experiment: Experiment) -> None:
    """Check every name and option of an experiment against its registry.

    Raises:
        ConfigError: with the nearest name that exists; or two runs would have one folder.
    """
    _require_folders_of_their_own(experiment)
    check_classifier(experiment.train.classifier)
    for attack in experiment.attack.sets:
        with _in_errors(attack.name):
            check_target(experiment, attack.victim)
            method = make_attack(attack.attack, attack.options, attack.engine)
            if not isinstance(method, Universal):  # whose budget is known only from the data
                method.check(budget_of(attack), attack.store)
    tiers = experiment.evaluate.tiers
    for item in tiers.attacks:
        with _in_errors(item.name):
            method = make_attack(item.attack, item.options, item.engine)
            method.check(budget_of(tiers.budget), tiers.budget.store)
        if item.tier == "T2" and tiers.substitute is None:
            raise ConfigError("no experiment to transfer from", item=item.name, expected="evaluate.tiers.substitute")
    for defense in experiment.defenses:
        with _in_errors(defense.name):
            check_defense(defense.defense, defense.options)


@contextmanager
def _in_errors(name: str) -> Iterator[None]:
    """Name the entry, or the row of its grid, in front of the item of an error: several may have one attack or defense."""
    try:
        yield
    except ConfigError as error:
        item = name if error.item is None else f"{name}: {error.item}"
        raise ConfigError(error.message, item=item, expected=error.expected, got=error.got) from error


def _require_folders_of_their_own(experiment: Experiment) -> None:
    """Refuse names such as a and a-on-b of defenses with b-on-c and c of attack sets."""
    layout = Layout(experiment.root)
    defenses = [UNDEFENDED, *(item.name for item in experiment.defenses)]
    sets = [CLEAN, *(item.name for item in experiment.attack.sets)]
    folders = [layout.predictions(defense, name) for defense in defenses for name in sets]
    folders += [folder(defense) for defense in defenses for folder in (layout.verdicts, layout.probes)]
    folder, runs = Counter(folders).most_common(1)[0]
    if runs > 1:
        raise ConfigError(
            "two runs would have this folder", item=folder, expected="other names of defenses or attack sets"
        )

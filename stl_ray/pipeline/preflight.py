"""Checks before any work: names that no registry knows, options that do not fit, names that would share a folder."""

from collections import Counter

from stl_ray.attacks import Universal, make_attack
from stl_ray.config import Experiment, space_of
from stl_ray.defenses import check_clusters, check_defense, required_by
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
        ConfigError: with the nearest name that exists; two runs would have one folder; or a space does not do for a defense.
    """
    _require_folders_of_their_own(experiment)
    check_classifier(experiment.train.classifier)
    for attack in experiment.attack.sets:
        check_target(experiment, attack.victim)
        method = make_attack(attack.attack, attack.options, attack.engine)
        if not isinstance(method, Universal):  # whose budget is known only from the data
            method.check(budget_of(attack), attack.store)
    tiers = experiment.evaluate.tiers
    for item in tiers.attacks:
        method = make_attack(item.attack, item.options, item.engine)
        try:
            method.check(budget_of(tiers.budget), tiers.budget.store)
        except ConfigError as error:
            raise ConfigError(error.message, item=item.name, expected=error.expected, got=error.got) from error
        if item.tier == "T2" and tiers.substitute is None:
            raise ConfigError("no experiment to transfer from", item=item.name, expected="evaluate.tiers.substitute")
    for defense in experiment.defenses:
        check_defense(defense.defense, defense.options)
        if "space" in required_by(defense.defense):
            space = space_of(experiment, defense)
            # Of a folder it is known only when it is read, which is before any work too.
            check_clusters(defense.defense, clustered=not space.is_dictionary, space=f"{space.name}, {space.load}")


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

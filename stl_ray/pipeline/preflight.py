"""Checks before any work: names that no registry knows, options that do not fit, names that would share a folder, and
what the jobs that are to be run need.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from stl_ray.attacks import Universal, budget_of, make_attack
from stl_ray.config import SCRATCH, ClassifierConfig, Experiment, NamedAttack, NamedDefense, classifier_of, space_of
from stl_ray.config.classifiers import is_function
from stl_ray.defenses import FittedOptions, check_clusters, is_transformation, options_of
from stl_ray.defenses.ensemble import require_member
from stl_ray.errors import ConfigError
from stl_ray.evaluation import UNDEFENDED
from stl_ray.models import check_classifier
from stl_ray.options import named, require_known
from stl_ray.pipeline.needs import crafted_on, detects, require_needs
from stl_ray.store import Layout
from stl_ray.store.layout import CLEAN


def preflight(experiment: Experiment, *jobs: str) -> None:
    """Check every name and option of an experiment against its registry, and that jobs have what they need.

    Args:
        experiment: to check.
        jobs: those that are to be run.

    Raises:
        ConfigError: with the nearest name that exists; two runs would have one folder; a space does not do for a defense; or
            with the lines to add, where a job needs a section that is not there.
    """
    _require_folders_of_their_own(experiment)
    for classifier in experiment.classifiers:
        check_classifier(classifier.architecture)
    _require_names(experiment)
    for attack in experiment.attack.sets:
        with _in_errors(attack.name):
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
            options = options_of(defense.defense, defense.options)
        for member in options.members:
            others = [item.name for item in experiment.defenses if is_transformation(item.defense)]
            require_known(member, others, kind=f"defense of this experiment that transforms images, of {defense.name}")
            require_member(f"{member} of {defense.name}", detects=detects(experiment, member))
        if "space" in options.requires:
            space = space_of(experiment, defense)
            # Of a folder it is known only when it is read, which is before any work too.
            with _in_errors(defense.name):
                check_clusters(defense.defense, clustered=not space.is_dictionary, space=f"{space.name}, {space.load}")
        if "classifier" in options.requires:
            looking = classifier_of(experiment, defense)
            if is_transformation(defense.defense):
                _require_trained_before(experiment, defense, looking, jobs)
        if isinstance(options, FittedOptions) and options.load is None and options.recipe.looks_with is not None:
            _require_given(experiment, defense)
    require_needs(experiment, jobs)


def _require_trained_before(
    experiment: Experiment, defense: NamedDefense, looking: ClassifierConfig, jobs: Collection[str]
) -> None:
    """Refuse a defense that looks with a classifier trained here, where others wait for the images that it makes."""
    waiting = [
        item.name
        for item in experiment.classifiers
        if item.retrain is not None and (item.retrain.projection == "stored" or item.retrained_for(defense.name))
    ]
    if looking.trained and {"project", "train"} <= set(jobs):
        raise ConfigError(
            "it looks at images with a classifier that is trained here, and `project` comes before `train`",
            item=f"{defense.name}.classifier", expected="a classifier with weights, or the jobs one by one, train first",
            got=looking.name,
        )  # fmt: skip
    if looking.trained and waiting:
        raise ConfigError(
            f"it looks at images with a classifier that is trained here, while {', '.join(waiting)} waits to be retrained on "
            "what the defenses make: neither can come first", item=f"{defense.name}.classifier",
            expected="a classifier with weights", got=looking.name,
        )  # fmt: skip


def _require_given(experiment: Experiment, defense: NamedDefense) -> None:
    """Refuse to fit a defense with a classifier that is trained here, which comes later."""
    looking = classifier_of(experiment, defense)
    if looking.trained:
        raise ConfigError(
            "it is fitted with a classifier that is trained here, and training comes after fitting",
            item=f"{defense.name}.classifier", expected="a classifier with weights", got=looking.name,
        )  # fmt: skip


@contextmanager
def _in_errors(name: str) -> Iterator[None]:
    """Name the entry, or the row of its grid, in front of the item of an error: several may have one attack or defense."""
    try:
        yield
    except ConfigError as error:
        item = name if error.item is None else f"{name}: {error.item}"
        raise ConfigError(error.message, item=item, expected=error.expected, got=error.got) from error


def _require_names(experiment: Experiment) -> None:
    """Refuse the name of a classifier or a defense that the experiment does not have."""
    classifiers = {item.name: item for item in experiment.classifiers}
    defenses = [item.name for item in experiment.defenses]
    for item in experiment.classifiers:
        if item.retrain is not None:
            _require_start(item, item.retrain.start, classifiers)
            for name in item.retrain.defenses or ():
                require_known(name, defenses, kind="defense of this experiment")
            _require_retrainable(experiment, item)
    for attack in experiment.attack.sets:
        victim = attack.victim
        for name in filter(None, (victim.retrained_for, victim.defense)):
            require_known(name, defenses, kind="defense of this experiment")
        if victim.classifier is not None:
            require_known(victim.classifier, classifiers, kind="classifier to attack")
        for item in crafted_on(experiment, attack):
            if victim.retrained_for is not None and not item.retrained_for(victim.retrained_for):
                raise ConfigError(
                    f"the classifier to attack, {item.name}, is not retrained for {victim.retrained_for}", item=attack.name,
                    expected="its key `retrain`, with that defense",
                )  # fmt: skip
        if victim.retrained_for is not None:
            _require_one_network(experiment, attack, victim.retrained_for)


def _require_one_network(experiment: Experiment, attack: NamedAttack, name: str) -> None:
    """Refuse to attack the networks of an ensemble's members in another place than behind it."""
    (chosen,) = (item for item in experiment.defenses if item.name == name)
    if attack.victim.defense != name and not is_transformation(chosen.defense):
        raise ConfigError(
            f"retrained for {name}, the classifier is a network for each member", item=attack.name,
            expected=f"victim.defense: {name}, or victim.retrained_for: one of its members", got=f"victim.defense: {attack.victim.defense}",
        )  # fmt: skip


def _require_retrainable(experiment: Experiment, item: ClassifierConfig) -> None:
    """Refuse a retraining for a defense that makes no images to train on."""
    stored = [defense.name for defense in experiment.defenses if is_transformation(defense.defense)]
    for defense in experiment.defenses:
        if not item.retrained_for(defense.name) or defense.name in stored:
            continue
        members = options_of(defense.defense, defense.options).members
        if not members:
            raise ConfigError(
                f"a classifier cannot be retrained for {defense.name}, which makes no image of an image",
                item=f"{item.name}.retrain.defenses", expected=f"some of {', '.join(stored) or 'none'}",
            )  # fmt: skip
        if missing := [name for name in members if not item.retrained_for(name)]:
            raise ConfigError(
                f"a classifier is retrained for {defense.name} by a network for each member", item=f"{item.name}.retrain.defenses",
                expected=f"{', '.join(missing)} too",
            )  # fmt: skip


def _require_start(item: ClassifierConfig, start: str, classifiers: Mapping[str, ClassifierConfig]) -> None:
    """Refuse a start that a retraining cannot begin with."""
    if start == SCRATCH:
        if not item.trained and is_function(item.architecture):
            raise ConfigError(
                "it comes with weights of its own, and so cannot be retrained from scratch", item=item.name,
                expected=f"retrain: {{start: {item.name}}}, which fine-tunes it",
            )  # fmt: skip
        return
    other = named(classifiers, start, kind="classifier to begin with (or scratch)")
    if other.architecture != item.architecture:
        raise ConfigError(
            "it cannot begin with the weights of another network", item=f"{item.name}.retrain.start",
            expected=f"a classifier of {item.architecture}", got=f"{other.name}, {other.architecture}",
        )  # fmt: skip


def _require_folders_of_their_own(experiment: Experiment) -> None:
    """Refuse names such as a and a-on-b of defenses with b-on-c and c of attack sets, or a and a-for-b of classifiers."""
    layout = Layout(experiment.root)
    own = [item.name for item in experiment.defenses]
    defenses, sets = [UNDEFENDED, *own], [CLEAN, *(item.name for item in experiment.attack.sets)]
    folders = [layout.predictions("", defense, name) for defense in defenses for name in sets]
    folders += [layout.draws("", defense, name) for defense in own for name in sets]
    folders += [layout.perturbations("", defense, name) for defense in own for name in sets[1:]]
    folders += [folder("", defense) for defense in defenses for folder in (layout.verdicts, layout.probes)]
    folders += [layout.classifier(item.name) for item in experiment.classifiers]
    folders += [
        layout.classifier(item.name, name)
        for item in experiment.classifiers
        for name in own
        if item.retrained_for(name)
    ]
    folder, runs = Counter(folders).most_common(1)[0]
    if runs > 1:
        raise ConfigError(
            "two would have this folder", item=folder.replace("//", "/CLASSIFIER/"),
            expected="other names of classifiers, defenses or attack sets",
        )  # fmt: skip

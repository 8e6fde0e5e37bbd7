"""The substitute of transfer attacks: the defenses and classifiers of another experiment, in the places of this one's."""

from collections.abc import Mapping, Sequence

from stl_ray.config import Experiment
from stl_ray.errors import ConfigError
from stl_ray.evaluation import DefendedClassifier
from stl_ray.options import require_known
from stl_ray.pipeline.defended import Block, load_block
from stl_ray.pipeline.defenses import make_defenses
from stl_ray.pipeline.inputs import recorded, with_solver


def substitutes_of(
    experiment: Experiment, blocks: Mapping[str, Block], names: Sequence[str], device: str
) -> dict[str, dict[str, DefendedClassifier]]:
    """By block, the substitute experiment's defenses with its classifier of that name, or its only one; empty without one.

    Raises:
        IncompleteRunError: the substitute experiment is not there, or not finished up to train.
        ConfigError: it lacks a defense, has no classifier for a block, or one with other classes.
    """
    root = experiment.evaluate.tiers.substitute
    if root is None:
        return {}
    other = with_solver(recorded(root).model_copy(update={"root": root}))
    wanted = [item.name for item in experiment.defenses]
    have = [item.name for item in other.defenses]
    for name in wanted:
        require_known(name, have, kind="defense of the substitute experiment")
    there = [item.name for item in other.classifiers if item.scored]
    defenses = make_defenses(other, device, names=wanted)
    found = {}
    for name, block in blocks.items():
        # Others are not loaded: they may not be trained, or know other classes.
        own = name if name in there else there[0] if len(there) == 1 else None
        substitute = None if own is None else load_block(other, own, names, device, defenses)
        if substitute is None or substitute.class_names != block.class_names:
            raise ConfigError(
                "the substitute experiment has no classifier in the place of this one, with its classes", item=name,
                expected="one of the same name, or only one", got=", ".join(there) or "none",
            )  # fmt: skip
        found[name] = substitute.defended
    return found

"""What defenses are fitted with: a run over the training shards, and what is made of its rows.

A new kind is one file beside this one and one row; a network that is trained on windows, a row of `windows`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stl_ray import __version__
from stl_ray.defenses import ArtifactRecipe
from stl_ray.defenses.patch_dictionary import DictionaryRecipe
from stl_ray.defenses.quilting_library import LibraryRecipe
from stl_ray.pipeline.fit import d3, quilting, windows
from stl_ray.pipeline.fitted import ArtifactFit
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.runtime.shard_runner import ShardJob, run_shards
from stl_ray.store import Dataset


class Kind(NamedTuple):
    """How a kind of artifact is made.

    Attributes:
        job: (fit, recipe) -> its run over the training shards.
        assemble: (fit, recipe, the finished run, record) writes the artifact with that record.
    """

    job: Callable[[ArtifactFit, Any], ShardJob]
    assemble: Callable[[ArtifactFit, Any, Dataset, Mapping[str, Any]], None]


KINDS: dict[type[ArtifactRecipe], Kind] = {
    DictionaryRecipe: Kind(d3.job, d3.assemble),
    LibraryRecipe: Kind(quilting.job, quilting.assemble),
    **dict.fromkeys(windows.TRAININGS, Kind(windows.job, windows.assemble)),
}


def job_of(fit: ArtifactFit) -> ShardJob | None:
    """The run that an artifact is made of; None where the artifact is there.

    Raises:
        IncompleteRunError: the training split was not ingested.
        RunIdentityError: an artifact is there that was made of other images, or with another classifier.
    """
    if not fit.made:
        return KINDS[type(fit.recipe)].job(fit, fit.recipe)
    fit.require()
    return None


def make_artifact(fit: ArtifactFit) -> dict[str, Dataset]:
    """Make an artifact unless it is there; its run by its folder.

    Raises:
        IncompleteRunError: the training split was not ingested, or shards failed.
        RunIdentityError: one is there that was made otherwise.
        QuarantineLimitError: too many images cannot be used.
        TrainingError: the images do not do.
    """
    job = job_of(fit)
    if job is None:
        return {}
    run_shards(job, fit.experiment)
    return assemble(fit, job)


def assemble(fit: ArtifactFit, job: ShardJob) -> dict[str, Dataset]:
    """Make an artifact of its run, which is finished; the run by its folder."""
    (planned,) = job.runs
    run = dataset_of(fit.experiment.root, planned.folder)
    KINDS[type(fit.recipe)].assemble(fit, fit.recipe, run, record_of(fit))
    return {planned.folder: run}


def record_of(fit: ArtifactFit) -> dict[str, Any]:
    """What is stored with an artifact, and decides whether its training resumes."""
    return {**fit.record, "stl_ray": __version__}

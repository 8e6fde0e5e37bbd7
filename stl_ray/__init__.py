"""stl_ray: adversarial defense by stratified convolutional sparse coding, as batch jobs on a Ray cluster.

The rooms, from the top; imports go down only:

    cli          `stl-ray JOB CONFIG [key=value ...]`
    pipeline     the jobs: ingest, fit, project, train, attack, evaluate
    notebook     `evaluate` and `attack` in one process, without Ray and without files
    runtime      the machinery on Ray, which knows no job: session, shard runner, training workers, submission
    report       tables, figures and the page, from stored scores
    training     training without Ray: classifiers, the autoencoder, the whole space on one machine
    evaluation   scores from predictions
    attacks      one file per attack
    defenses     one file per defense
    models       classifiers on [0, 1] images
    space        the stratified quasi-natural space: autoencoder, clusters, projection, layer
    csc          the solver: convolutional sparse coding and dictionary learning
    images       the image record: bytes <-> pixels, and the readers of every source
    store        files, artifacts and the run protocol
    config       one frozen model per job
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stl_ray.notebook import attack, evaluate
    from stl_ray.space import QuasiNaturalSpace, SparseTransformationLayer

__version__ = "0.1.0"
__all__ = ["QuasiNaturalSpace", "SparseTransformationLayer", "__version__", "attack", "evaluate"]

_ROOMS = {
    "QuasiNaturalSpace": "space",
    "SparseTransformationLayer": "space",
    "attack": "notebook",
    "evaluate": "notebook",
}


def __getattr__(name: str) -> Any:
    """Load what is public when it is first asked for: `stl-ray --help` needs no torch."""
    if name in _ROOMS:
        return getattr(import_module(f"stl_ray.{_ROOMS[name]}"), name)
    raise AttributeError(f"module 'stl_ray' has no attribute {name!r}")

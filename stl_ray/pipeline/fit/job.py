"""fit: clean training shards -> the stratified spaces that are not loaded from elsewhere, each with its learning curves, and
what other defenses are fitted with (`artifacts`).

Thumbnails, autoencoder, latents, clusters, samples, dictionaries: each step keeps its results under fit/, so that a fit
that was killed resumes with the missing ones, and spaces that agree on a step's settings share it.
"""

from typing import Any

from stl_ray import __version__
from stl_ray.config import Experiment
from stl_ray.images import decode
from stl_ray.pipeline.batches import STORED_PIXELS, rows_at
from stl_ray.pipeline.fit import autoencoder, clusters, dictionaries, latents, samples, thumbnails
from stl_ray.pipeline.fit.artifacts import make_artifact
from stl_ray.pipeline.fit.latents import latent_ids
from stl_ray.pipeline.fit.space_fit import SpaceFit
from stl_ray.pipeline.fitted import artifacts_of
from stl_ray.pipeline.inputs import training_images
from stl_ray.space.pretrained import load_autoencoder
from stl_ray.store import Dataset, Layout, Storage
from stl_ray.store.lease import held
from stl_ray.training import assemble, quality_of, sample_dictionaries


def run(experiment: Experiment) -> dict[str, Any]:
    """Fit what is missing, one space after the other, and write them; the counts of training images and quarantined.

    Raises:
        IncompleteRunError: if the training split was not ingested, or shards failed.
        RunBusyError: if another driver is fitting below this root.
        RunIdentityError: if a step's folder holds results of other images, versions or another solver.
        QuarantineLimitError: if too many images cannot be used.
        TrainingError: if there are too few images for the autoencoder, a cluster or a dictionary.
        TensorError: if the images are too much alike or too flat.
    """
    fits, artifacts = fits_of(experiment), artifacts_of(experiment)
    if not fits and not artifacts:
        return {"images": 0, "quarantined": 0, "summary": "nothing to fit: every space that is listed is loaded"}
    dataset = training_images(experiment)
    for fit in fits:
        autoencoder.pretrained(fit)  # an unusable one is refused before any work
    runs: dict[str, Dataset] = {}
    with held([Storage.open(experiment.root).below(Layout.fit)]):
        for fit in fits:
            runs |= _fit(fit, dataset)
        for artifact in artifacts:
            runs |= make_artifact(artifact)
    return {"images": dataset.rows, "quarantined": sum(run.quarantined for run in runs.values())}


def fits_of(experiment: Experiment) -> list[SpaceFit]:
    """The spaces of an experiment that are to be fitted."""
    return [SpaceFit(experiment, space) for space in experiment.spaces if space.load is None]


def _fit(fit: SpaceFit, dataset: Dataset) -> dict[str, Dataset]:
    """Fit a space; its runs by their folders."""
    layout, config = Layout(fit.experiment.root), fit.space
    small = thumbnails.run(fit)
    digest = autoencoder.run(fit, small)
    encoded = latents.run(fit, small, digest)
    clustering, shown = clusters.run(fit, small, encoded)
    drawn = sample_dictionaries(clustering.labels, config.dictionary, clusters=config.clusters, seed=fit.seed)
    ids = latent_ids(encoded)
    images = samples.run(fit, drawn, encoded, ids)
    learned = dictionaries.run(fit, drawn, images, ids)
    first = decode(rows_at(images, [0])[0]["image"]["bytes"], max_pixels=STORED_PIXELS)
    _, record, _ = load_autoencoder(layout.uri(fit.autoencoder))
    provenance = {
        "seed": fit.seed,
        "dataset": dataset.digest,
        "images": encoded.rows,
        "autoencoder": quality_of(record),
        "stl_ray": __version__,
    }
    # Always: an earlier space may be of other settings; the same fit gives the same bytes.
    space = assemble(clustering, shown, learned, config, resolution=first.shape[0], provenance=provenance)
    space.save(layout.uri(layout.space(config.name)))
    curves = {
        "autoencoder": autoencoder.curve(fit),
        "dictionaries": {name: list(one.curve) for name, one in learned.items()},
        "clusters": space.provenance["clusters"],
    }
    Storage.open(fit.experiment.root).write_json(layout.curves(config.name), curves)
    return {fit.thumbnails: small, fit.latents: encoded, fit.samples: images}

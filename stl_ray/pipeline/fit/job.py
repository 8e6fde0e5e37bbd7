"""fit: clean training shards -> the stratified space, with its learning curves.

Thumbnails, autoencoder, latents, clusters, samples, dictionaries: each step keeps its results under fit/, so that a fit
that was killed resumes with the missing ones.
"""

from typing import Any

from stl_ray import __version__
from stl_ray.config import Experiment
from stl_ray.images import decode
from stl_ray.pipeline.batches import STORED_PIXELS, rows_at
from stl_ray.pipeline.fit import autoencoder, clusters, dictionaries, latents, samples, thumbnails
from stl_ray.pipeline.fit.latents import latent_ids
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.space.pretrained import load_autoencoder
from stl_ray.store import Layout, Storage
from stl_ray.store.lease import held
from stl_ray.training import assemble, quality_of, sample_dictionaries


def run(experiment: Experiment) -> dict[str, Any]:
    """Fit what is missing and write the space; the counts of training images and quarantined.

    Raises:
        IncompleteRunError: if the training split was not ingested, or shards failed.
        RunBusyError: if another driver is fitting below this root.
        RunIdentityError: if a step's folder holds results of other settings or images.
        QuarantineLimitError: if too many images cannot be used.
        TrainingError: if there are too few images for the autoencoder, a cluster or a dictionary.
        TensorError: if the images are too much alike or too flat.
    """
    with held([Storage.open(experiment.root).below(Layout.fit)]):
        return _fit(experiment)


def _fit(experiment: Experiment) -> dict[str, Any]:
    layout, config = Layout(experiment.root), experiment.fit
    dataset = dataset_of(experiment.root, layout.ingested("train"))
    autoencoder.pretrained(experiment)  # an unusable one is refused before any work
    small = thumbnails.run(experiment)
    digest = autoencoder.run(experiment, small)
    encoded = latents.run(experiment, small, digest)
    clustering, shown = clusters.run(experiment, small, encoded)
    drawn = sample_dictionaries(clustering.labels, config.dictionary, clusters=config.clusters, seed=experiment.seed)
    ids = latent_ids(encoded)
    images = samples.run(experiment, drawn, encoded, ids)
    learned = dictionaries.run(experiment, drawn, images, ids)
    first = decode(rows_at(images, [0])[0]["image"]["bytes"], max_pixels=STORED_PIXELS)
    _, record, _ = load_autoencoder(layout.uri(Layout.autoencoder))
    provenance = {
        "seed": experiment.seed,
        "dataset": dataset.digest,
        "images": encoded.rows,
        "autoencoder": quality_of(record),
        "stl_ray": __version__,
    }
    # Always: an earlier space may be of a fit that was removed; the same fit gives the same bytes.
    space = assemble(clustering, shown, learned, config, resolution=first.shape[0], provenance=provenance)
    space.save(layout.uri(Layout.space))
    curves = {
        "autoencoder": autoencoder.curve(experiment),
        "dictionaries": {name: list(one.curve) for name, one in learned.items()},
        "clusters": space.provenance["clusters"],
    }
    Storage.open(experiment.root).write_json(Layout.curves, curves)
    return {"images": dataset.rows, "quarantined": small.quarantined + encoded.quarantined + images.quarantined}

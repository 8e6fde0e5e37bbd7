"""Which images dictionaries are learned from: copies of what is stored, without what was set aside; without Ray."""

import io

import pyarrow as pa
import pytest
from PIL import Image

from stl_ray.errors import RunIdentityError, StorageError
from stl_ray.pipeline.fit import latents, samples, thumbnails
from stl_ray.pipeline.fit.latents import latent_ids
from stl_ray.space.pretrained import save_autoencoder
from stl_ray.store import Layout, Run
from stl_ray.training import DictionarySample
from stl_ray.training.space.autoencoder import new_autoencoder


@pytest.fixture
def runs_here(monkeypatch):
    """The shard runner in this process."""

    def run_shards(job, experiment):
        work = job.make_task()
        for plan in job.runs:
            run = Run.open(experiment.root, plan.folder)
            run.start(plan.plan, identity=plan.identity, environment={})
            for shard in run.plan():
                output = work(plan.folder, shard)
                run.publish(shard, output.table, output.quarantine, seconds=0, attempt=1, environment={})
            run.finish(max_quarantined=experiment.max_quarantined)

    for module in (thumbnails, latents, samples):
        monkeypatch.setattr(module, "run_shards", run_shards)


@pytest.fixture
def latents_in(finished_run):
    """Makes latents of the images of these numbers; who reads them here looks at ids alone."""

    def make(fit, *parts):
        return finished_run(
            fit.experiment, fit.latents, *(pa.table({"id": [f"id-{n}" for n in part]}) for part in parts)
        )

    return make


def test_identity_samples_are_the_stored_rows_each_once_in_their_order(
    fit_of, runs_here, crops, image_tables, finished_run, latents_in
):
    fit = fit_of()
    tables = image_tables(crops(20), 8, 5, 7)
    finished_run(fit.experiment, "ingest/train", *tables)
    # Images 3 and 13 were set aside.
    encoded = latents_in(fit, [0, 1, 2, 4, 5, 6, 7], [8, 9, 10, 11, 12], [14, 15, 16, 17, 18, 19])
    ids = latent_ids(encoded)
    drawn = [DictionarySample("universal", [17, 2, 5], [13]), DictionarySample("cluster_0", [5, 0, 15], [2])]
    found = samples.run(fit, drawn, encoded, ids)
    # Of the second shard no image was drawn.
    assert [part["rows"] for part in found.parts] == [3, 3]
    rows = [row for table in found.tables() for row in table.to_pylist()]
    stored = {row["id"]: row for table in tables for row in table.to_pylist()}
    assert rows == [stored[name] for name in ("id-0", "id-2", "id-6", "id-15", "id-17", "id-19")]
    assert next(found.tables()).schema.equals(tables[0].schema, check_metadata=True)
    assert samples.run(fit, drawn, encoded, ids).digest == found.digest
    with pytest.raises(RunIdentityError, match="ids"):
        samples.run(fit, drawn[:1], encoded, ids)


def test_refuses_latents_of_images_that_are_not_in_their_shard(
    fit_of, runs_here, crops, image_tables, finished_run, latents_in
):
    fit = fit_of()
    finished_run(fit.experiment, "ingest/train", *image_tables(crops(4), 2, 2))
    encoded = latents_in(fit, [0, 2], [3])
    with pytest.raises(StorageError, match=r"images that have latents are not in their shard; expected 2; got 1"):
        samples.run(fit, [DictionarySample("universal", [0, 1], [2])], encoded, latent_ids(encoded))


def test_invariant_an_image_that_was_set_aside_does_not_appear_further_on(
    fit_of, runs_here, crops, image_tables, finished_run
):
    fit = fit_of(max_quarantined=0.5)
    images = crops(9, side=40)
    buffer = io.BytesIO()
    Image.fromarray(images[3]).save(buffer, "PNG")
    images[3] = buffer.getvalue()[:-300]
    images[7] = b"no image"
    finished_run(fit.experiment, "ingest/train", *image_tables(images, 5, 2, 2))
    small = thumbnails.run(fit)
    assert small.quarantined == 2
    digest = save_autoencoder(Layout(fit.experiment.root).uri(fit.autoencoder), new_autoencoder(32, seed=0).eval(), {})
    encoded = latents.run(fit, small, digest)
    ids = latent_ids(encoded)
    sound = ["id-0", "id-1", "id-2", "id-4", "id-5", "id-6", "id-8"]
    assert ids == sound == thumbnails.load_thumbnails(small)[1]
    found = samples.run(fit, [DictionarySample("universal", [6, 5, 4, 3], [2, 1, 0])], encoded, ids)
    assert [name for table in found.tables() for name in table.column("id").to_pylist()] == sound

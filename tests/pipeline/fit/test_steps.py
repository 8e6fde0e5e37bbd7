"""The steps of `fit` before the clusters, shard by shard and without Ray."""

import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from stl_ray.errors import ArtifactError, ConfigError, IncompleteRunError, RunIdentityError, TrainingError
from stl_ray.evaluation.batches import BATCH
from stl_ray.images import encode_png, image_schema, to_tensor
from stl_ray.pipeline.batches import plan_parts
from stl_ray.pipeline.fit import autoencoder as stage
from stl_ray.pipeline.fit import latents as latents_stage
from stl_ray.pipeline.fit import thumbnails as thumbnails_stage
from stl_ray.pipeline.fit.latents import LatentTask, load_latents
from stl_ray.pipeline.fit.thumbnails import ThumbnailTask, load_thumbnails, thumbnail_table
from stl_ray.runtime.shard_task import ShardOutput
from stl_ray.space import encode, thumbnails
from stl_ray.space.pretrained import save_autoencoder
from stl_ray.store import Dataset, Layout, PlannedShard, Run
from stl_ray.training.space.autoencoder import new_autoencoder

GENERATOR = np.random.default_rng(0)


def _images(count):
    """Smooth images of three sizes, one of them the thumbnails' own."""
    sizes = [(40, 50), (32, 32), (64, 64)]
    small = [GENERATOR.integers(0, 256, (4, 4, 3), dtype=np.uint8) for _ in range(count)]
    return [np.array(Image.fromarray(s).resize(sizes[i % 3])) for i, s in enumerate(small)]


def finished(fit, folder, outputs) -> Dataset:
    """A finished run with a part for each output."""
    run = Run.open(fit.experiment.root, folder)
    plan = [
        PlannedShard(number=n, source={"n": n}, rows=output.table.num_rows + len(output.quarantine), digest=str(n))
        for n, output in enumerate(outputs)
    ]
    run.start(plan, identity={}, environment={})
    for shard, output in zip(plan, outputs, strict=True):
        run.publish(shard, output.table, output.quarantine, seconds=0, attempt=1, environment={})
    run.finish(max_quarantined=1)
    return Dataset.open(Layout(fit.experiment.root).uri(folder))


def ingested(fit, *shards) -> Dataset:
    """The ingested training images; bytes stand for themselves."""
    outputs, number = [], 0
    for shard in shards:
        rows = []
        for image in shard:
            data = image if isinstance(image, bytes) else encode_png(image)
            rows.append({"id": f"id-{number}", "image": {"bytes": data, "path": None}, "label": -1})
            number += 1
        outputs.append(ShardOutput(pa.Table.from_pylist(rows, schema=image_schema("image", None))))
    return finished(fit, "ingest/train", outputs)


def work_through(work, dataset) -> list[ShardOutput]:
    return [work("", shard) for shard in plan_parts(dataset)]


@pytest.mark.parametrize("side", [32, 64])
def test_identity_thumbnails_are_what_the_router_makes_of_an_image(fit_of, side):
    fit = fit_of(autoencoder={"side": side})
    images = _images(BATCH + 9)
    dataset = ingested(fit, images[:5], images[5:])
    outputs = work_through(ThumbnailTask(fit), dataset)
    small, ids = load_thumbnails(finished(fit, fit.thumbnails, outputs))
    assert ids == [f"id-{number}" for number in range(len(images))]
    assert small.dtype == torch.uint8
    assert torch.equal(small, torch.cat([thumbnails(to_tensor([image]), side) for image in images]))


def test_invariant_an_image_that_cannot_be_decoded_is_set_aside_and_the_rest_go_on(fit_of):
    fit = fit_of()
    images = _images(4)
    buffer = io.BytesIO()
    Image.fromarray(images[0]).save(buffer, "JPEG")
    cut = buffer.getvalue()[:-200]
    dataset = ingested(fit, [images[0], cut, images[2]], [b"no image"], [images[1]])
    outputs = work_through(ThumbnailTask(fit), dataset)
    aside = {row.id: (str(row.reason), row.image) for output in outputs for row in output.quarantine}
    assert aside == {"id-1": ("unreadable", cut), "id-3": ("unreadable", b"no image")}
    # The second part has no row left, but its schema.
    assert outputs[1].table.schema == outputs[0].table.schema
    small, ids = load_thumbnails(finished(fit, fit.thumbnails, outputs))
    assert ids == ["id-0", "id-2", "id-4"]
    sound = [images[0], images[2], images[1]]
    assert torch.equal(small, torch.cat([thumbnails(to_tensor([image]), 32) for image in sound]))


def thumbnail_run(fit, *parts) -> Dataset:
    """A finished run of thumbnails, uint8 (B, 3, side, side) for each part."""
    outputs, number = [], 0
    for part in parts:
        ids = [f"id-{number + i}" for i in range(len(part))]
        number += len(part)
        outputs.append(ShardOutput(thumbnail_table(ids, [t.numpy().tobytes() for t in part], part.shape[-1])))
    return finished(fit, fit.thumbnails, outputs)


@pytest.mark.parametrize("side", [32, 64])
def test_identity_latents_are_what_the_router_makes_of_an_image(fit_of, side):
    fit = fit_of(autoencoder={"side": side})
    images = _images(9)
    small = torch.cat([thumbnails(to_tensor([image]), side) for image in images])
    dataset = thumbnail_run(fit, small[:7], small[:0], small[7:])
    network = new_autoencoder(side, seed=0).eval()
    digest = save_autoencoder(Layout(fit.experiment.root).uri(fit.autoencoder), network, {})
    outputs = work_through(LatentTask(fit, dataset, digest), dataset)
    assert len({str(output.table.schema) for output in outputs}) == 1
    latents, ids = load_latents(finished(fit, fit.latents, outputs))
    assert latents.dtype == np.float32 and latents.shape == (9, network.latent)
    assert ids == [f"id-{number}" for number in range(9)]
    for image, latent in zip(images, latents, strict=True):
        assert np.array_equal(encode(network, thumbnails(to_tensor([image]), side))[0].numpy(), latent)


def test_invariant_a_latent_that_is_not_finite_is_set_aside_and_the_rest_go_on(fit_of):
    fit = fit_of()
    network = new_autoencoder(32, seed=0).eval()
    with torch.no_grad():
        for convolution, norm, *_ in network.encoder:
            convolution.bias.zero_()
            norm.weight.fill_(1e30)  # overflows for every image but a black one
    digest = save_autoencoder(Layout(fit.experiment.root).uri(fit.autoencoder), network, {})
    small = torch.full((3, 3, 32, 32), 100, dtype=torch.uint8)
    small[1] = 0
    dataset = thumbnail_run(fit, small)
    (output,) = work_through(LatentTask(fit, dataset, digest), dataset)
    assert [(row.id, str(row.reason)) for row in output.quarantine] == [
        ("id-0", "latent_not_finite"), ("id-2", "latent_not_finite")
    ]  # fmt: skip
    assert output.table.to_pylist() == [{"id": "id-1", "latent": [0.0] * 512}]


def test_identity_a_pretrained_autoencoder_is_copied(fit_of, tmp_path):
    record = {"identity": {"seed": 7}, "psnr": 21.5}
    first, second = (save_autoencoder(str(tmp_path / str(s)), new_autoencoder(32, seed=s), record) for s in (0, 1))
    fit = fit_of(autoencoder={"pretrained": str(tmp_path / "0")})
    dataset = thumbnail_run(fit, torch.zeros((2, 3, 32, 32), dtype=torch.uint8))
    assert stage.run(fit, dataset) == stage.run(fit, dataset) == first != second
    copy = stage.load_autoencoder(Layout(fit.experiment.root).uri(fit.autoencoder))
    assert copy[1:] == ({**record, "side": 32}, first)
    assert stage.curve(fit) == []
    other = fit_of(autoencoder={"pretrained": str(tmp_path / "1")})
    assert stage.run(other, dataset) == second and stage.run(fit, dataset) == first
    save_autoencoder(str(tmp_path / "0"), new_autoencoder(32, seed=1), record)
    with pytest.raises(RunIdentityError, match=rf"pretrained.*{first}.*{second}"):
        stage.run(fit, dataset)


def test_refuses_a_pretrained_autoencoder_of_another_side_or_none(fit_of, tmp_path):
    save_autoencoder(str(tmp_path / "given"), new_autoencoder(64, seed=0), {})
    fit = fit_of(autoencoder={"pretrained": str(tmp_path / "given")})
    dataset = thumbnail_run(fit, torch.zeros((2, 3, 32, 32), dtype=torch.uint8))
    message = r"spaces\.0\.autoencoder\.side: .*given sees thumbnails of another side; expected 64; got 32"
    with pytest.raises(ConfigError, match=message):
        stage.run(fit, dataset)
    with pytest.raises(ArtifactError, match="no readable autoencoder artifact"):
        stage.run(fit_of(autoencoder={"pretrained": str(tmp_path / "absent")}), dataset)
    assert not list((tmp_path / "root" / "fit").glob("autoencoder-*"))


def test_refuses_too_few_images_at_once(fit_of):
    fit = fit_of()
    with pytest.raises(TrainingError, match=r"autoencoder: too few images to train on; .* got 1 images"):
        stage.run(fit, thumbnail_run(fit, torch.zeros((1, 3, 32, 32), dtype=torch.uint8)))


def test_refuses_a_step_before_the_one_it_needs(fit_of):
    fit = fit_of()
    with pytest.raises(IncompleteRunError, match=r"no finished dataset; run `stl-ray ingest` first"):
        thumbnails_stage.run(fit)
    dataset = thumbnail_run(fit, torch.zeros((2, 3, 32, 32), dtype=torch.uint8))
    with pytest.raises(IncompleteRunError, match=r"no autoencoder yet; run `stl-ray fit` first"):
        latents_stage.run(fit, dataset, "digest")
    save_autoencoder(Layout(fit.experiment.root).uri(fit.autoencoder), new_autoencoder(32, seed=0), {})
    with pytest.raises(ArtifactError, match="another autoencoder than was asked for; expected digest"):
        latents_stage.run(fit, dataset, "digest")

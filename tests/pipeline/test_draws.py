"""Defenses that draw random numbers, and solves that diverge: the same draw and the same verdict in every job."""

from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from stl_ray.defenses import (
    DEFENSES,
    DIVERGED,
    DefenseOptions,
    Purified,
    Transformation,
    deployed,
    deployed_seeds,
)
from stl_ray.defenses.registry import Row
from stl_ray.errors import RunIdentityError
from stl_ray.images import decode, from_uint8, quantize, to_tensor, to_uint8
from stl_ray.models import build_classifier, predict, save_classifier
from stl_ray.pipeline import project
from stl_ray.pipeline.attack import job as attack
from stl_ray.pipeline.defended import Block, load_blocks
from stl_ray.pipeline.evaluate import job as evaluate
from stl_ray.pipeline.evaluate.adaptive import plan_checks, plan_tiers
from stl_ray.pipeline.evaluate.gallery import write_gallery
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.pipeline.train.job import input_transform_of
from stl_ray.pipeline.train.plan import plan as trainings_of
from stl_ray.rightness import NO_VERDICT
from stl_ray.store import Dataset, Layout, Run, Storage
from stl_ray.store.shards import table_from_bytes
from stl_ray.training import ImagesInMemory, Share
from stl_ray.training.classifier.step_inputs import step_inputs
from stl_ray.training.classifier.validation import validate
from stl_ray.training.data.loader import Batch

DARK = 0.45
"""Mean below which the solve of `Fragile` diverges."""


@dataclass(frozen=True)
class Noise(Transformation):
    """Adds Gaussian noise, drawn for each image from its seed."""

    name = "noise"
    randomised = True

    def identity(self) -> dict[str, Any]:
        return {"defense": self.name}

    def purify(self, images: Tensor, *, seeds, exclude=None) -> Purified:
        noise = [torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return Purified.without_solver((images + 0.4 * torch.stack(noise)).clamp(0, 1))


@dataclass(frozen=True)
class Fragile(Transformation):
    """Leaves bright images as they are; dark ones diverge."""

    name = "fragile"

    def identity(self) -> dict[str, Any]:
        return {"defense": self.name}

    def purify(self, images: Tensor, *, seeds, exclude=None) -> Purified:
        lost = images.flatten(1).mean(1) < DARK
        status = [DIVERGED if dark else "converged" for dark in lost.tolist()]
        out = torch.where(lost[:, None, None, None], torch.nan, images)
        return replace(Purified.without_solver(out), status=status)


@pytest.fixture
def images(natural_images) -> Tensor:
    """Ten of 16 pixels, half of them dark."""
    crops = quantize(natural_images[:, :, 8:24, 8:24])
    order = crops.flatten(1).mean(1).argsort()
    return crops[torch.stack([order[:5], order[-5:]], 1).flatten()]


@pytest.fixture
def made(experiment_of, finished_run, image_tables, images, monkeypatch, tmp_path):
    """Makes an experiment with a defense of these tests, its images in shards of the given sizes."""
    monkeypatch.setitem(DEFENSES, "noise", Row(DefenseOptions, Noise, lambda options, resources: Noise()))
    monkeypatch.setitem(DEFENSES, "fragile", Row(DefenseOptions, Fragile, lambda options, resources: Fragile()))

    def make(name: str, *sizes: int, defense: str = "noise", seed: int = 0, retrain: dict[str, Any] | None = None):
        attacks = [{"name": "near", "tier": "T3", "attack": "pgd", "options": {"steps": 1}}]
        own = experiment_of(
            seed=seed,
            root=str(tmp_path / name),
            defenses=[{"name": defense, "defense": defense}],
            project={"splits": ["train", "test"]},
            classifiers=[{"name": "vanilla", "architecture": "small_cnn", "recipe": {"epochs": 1}, "retrain": retrain}],
            attack={"sets": [{"name": "set", "attack": "noise", "dissimilarity": 0.03}]},
            evaluate={"gallery": 4, "tiers": {"budget": {"dissimilarity": 0.05}, "attacks": attacks}},
        )
        layout = Layout(own.root)
        if not Storage.open(own.root).exists("ingest"):
            for split in ("test", "train"):
                finished_run(own, layout.ingested(split), *image_tables(list(to_uint8(images)), *sizes))
            # Weights of order one, so that what it says depends on the image.
            classifier = build_classifier("small_cnn", ["a", "b"], seed=3).eval()
            save_classifier(layout.uri(layout.classifier("vanilla")), classifier, {})
        return own

    return make


def rows(experiment, folder: str) -> dict[str, dict[str, Any]]:
    tables = Dataset.open(Layout(experiment.root).uri(folder)).tables()
    return {row["id"]: row for table in tables for row in table.to_pylist()}


def stored(table: dict[str, dict[str, Any]]) -> dict[str, bytes]:
    return {name: row["image"]["bytes"] for name, row in table.items()}


def evaluated(experiment, run_here) -> None:
    run_here(attack.plan(experiment), experiment)
    run_here(evaluate.plan(experiment), experiment)
    run_here(plan_tiers(experiment), experiment)


def test_invariant_a_purified_image_is_the_draw_of_its_id_and_the_run_seed(made, run_here):
    first, others, seeded = made("a", 6, 4), made("b", 1, 2, 7), made("c", 6, 4, seed=1)
    for own in (first, others, seeded):
        run_here(project.plan(own), own)
    for split in ("train", "test"):
        a, b, c = (stored(rows(own, f"project/noise-{split}")) for own in (first, others, seeded))
        assert a == b
        assert all(a[name] != c[name] for name in a)
        assert len(set(a.values())) == len(a)


def test_refuses_shards_of_another_seed_where_the_defense_draws(made, run_here):
    own = made("a", 6, 4)
    run_here(project.plan(own), own)
    evaluated(own, run_here)
    other = own.model_copy(update={"seed": 1})
    for planned in project.plan(other).runs:
        with pytest.raises(RunIdentityError, match="run_seed"):
            Run.open(own.root, planned.folder).require(planned.identity)
    (identity,) = {str(run.identity["defense"]) for run in project.plan(own).runs}
    assert "run_seed" in identity
    # The attack's own identity has the seed; the predictions' own would be the same without the defense's.
    defended = block_of(other).defended
    drawn, plain = defended["noise"], defended["none"]
    run = Run.open(own.root, "evaluate/vanilla/noise-on-clean")
    with pytest.raises(RunIdentityError, match="run_seed"):
        run.require({"defense": drawn.identity["defense"]})
    Run.open(own.root, "evaluate/vanilla/none-on-clean").require({"defense": plain.identity["defense"]})


def test_invariant_table_cascade_probes_and_gallery_draw_alike(made, images, run_here):
    own, other = made("a", 6, 4, seed=1), made("b", 3, 7, seed=1)
    for one in (own, other):
        evaluated(one, run_here)
    table = rows(own, "evaluate/vanilla/noise-on-clean")
    assert rows(other, "evaluate/vanilla/noise-on-clean") == table
    expected = predicted(own, images, list(table))
    assert [row["vanilla"] for row in table.values()] == expected
    cascade = rows(own, "evaluate/vanilla/noise-under-attack")
    assert [cascade[name]["verdicts"][0]["prediction"] for name in table] == expected
    assert cascade == rows(other, "evaluate/vanilla/noise-under-attack")
    run_here(plan_checks(own), own)
    probes = rows(own, "evaluate/vanilla/noise-under-checks")
    for answer in ("clean", "alone"):
        found = {name: dict_of(row["answers"], "probe", "prediction")[answer] for name, row in probes.items()}
        assert [found[name] for name in table] == expected
    # Stored sets: what the table says of them is what the cascade counts, and what the gallery shows.
    adversarial, judged = rows(own, "attack/vanilla/set"), rows(own, "evaluate/vanilla/noise-on-set")
    pictures = to_tensor([decode(row["image"]["bytes"], max_pixels=10**6) for row in adversarial.values()])
    assert [judged[name]["vanilla"] for name in adversarial] == predicted(own, pictures, list(adversarial))
    for name, row in cascade.items():
        assert [v["prediction"] for v in row["verdicts"] if v["attack"] == "set"] == [judged[name]["vanilla"]]
    shown = gallery(own)
    assert len([row for row in shown if row["why"] == "spaced"]) == 4
    expected_after = {"clean": table, "set": judged}
    for row in shown:
        image = to_tensor([decode(row["adversarial"], max_pixels=10**6)])
        seen = deployed(Noise(), image, deployed_seeds(own.seed, [row["id"]]))
        assert torch.equal(to_tensor([decode(row["purified"], max_pixels=10**6)]), seen)
        assert row["pred_after"] == expected_after[row["attack"]][row["id"]]["retrained"]


def test_invariant_another_seed_draws_otherwise(made, images):
    names = [f"id-{number}" for number in range(10)]
    model = block_of(made("a", 10)).defended["noise"].victim("none")
    one, two = (replace(model, seed=seed).purify(images, names)[0].images for seed in (0, 1))
    assert bool((one != two).flatten(1).any(1).all())


def block_of(experiment) -> Block:
    return load_blocks(experiment, ["a", "b"], "cpu")["vanilla"]


def predicted(experiment, images: Tensor, ids: list[str]) -> list[int]:
    """What the vanilla classifier says of the draws that are stored, by hand."""
    classifier = build_classifier("small_cnn", ["a", "b"], seed=3).eval()
    return predict(classifier, deployed(Noise(), images, deployed_seeds(experiment.seed, ids))).tolist()


def dict_of(entries: list[dict[str, Any]], key: str, value: str) -> dict[str, Any]:
    return {entry[key]: entry[value] for entry in entries}


def gallery(experiment) -> list[dict[str, Any]]:
    predictions = {
        tuple(cell): pa.concat_tables(Dataset.open(Layout(experiment.root).uri(run.folder)).tables())
        for (_, *cell), run in evaluate.cells_of(experiment).items()
    }
    clean, attacked = (evaluate.images_of(experiment, "vanilla", which) for which in ("clean", "set"))
    write_gallery(experiment, block_of(experiment), clean, {"set": attacked}, predictions)
    return table_from_bytes(
        Storage.open(experiment.root).read(Layout(experiment.root).gallery("vanilla")), item="gallery"
    ).to_pylist()


def test_invariant_training_draws_by_image_and_epoch_whatever_the_batch(made, images):
    own = made("a", 6, 4, retrain={"projection": "on_the_fly"})
    (training,) = [one for one in trainings_of(own) if one.retrained_for == "noise"]
    assert training.identity["defense"]["run_seed"] == 0
    input_transform = input_transform_of(own, training, "cpu")
    classifier = build_classifier("small_cnn", ["a", "b"], seed=3).eval()
    names = [f"id-{number}" for number in range(10)]
    training_images = ImagesInMemory((images * 255).round().to(torch.uint8), torch.zeros(10, dtype=torch.long), names)

    def seen(indices: list[int], epoch: int, seed: int = 0) -> dict[int, bytes]:
        batch = Batch(epoch, 0, 10, indices, training_images.pixels(indices))
        made = step_inputs(
            batch, training_images, torch.zeros(len(indices), dtype=torch.long), classifier, input_transform,
            own.train.model_copy(update={"augment_on": "loaders"}), seed=seed, item=f"{epoch}/{len(indices)}",
        )  # fmt: skip
        return {index: image.numpy().tobytes() for index, image in zip(indices, made.images, strict=True)}

    whole = seen(list(range(10)), epoch=1)
    assert seen([7, 2, 5], epoch=1) == {index: whole[index] for index in (7, 2, 5)}
    for other in (seen(list(range(10)), epoch=2), seen(list(range(10)), epoch=1, seed=1)):
        assert all(other[index] != whole[index] for index in range(10))
    config = own.train.model_copy(update={"batch_size": 4})
    loss, _ = validate(classifier, training_images, config, Share(), seed=0, input_transform=input_transform)
    pixels = deployed(Noise(), from_uint8(training_images.images), deployed_seeds(0, names))
    expected = torch.nn.functional.cross_entropy(classifier.logits(pixels), training_images.labels)
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_identity_a_diverged_solve_has_no_verdict_in_any_job(made, images, run_here):
    own = made("a", 6, 4, defense="fragile")
    run_here(project.plan(own), own)
    evaluated(own, run_here)
    run_here(plan_checks(own), own)
    dark = {f"id-{row}" for row, image in enumerate(images) if float(image.mean()) < DARK}
    assert 0 < len(dark) < 10
    table, cascade = rows(own, "evaluate/vanilla/fragile-on-clean"), rows(own, "evaluate/vanilla/fragile-under-attack")
    probes = rows(own, "evaluate/vanilla/fragile-under-checks")
    for name, row in table.items():
        lost = name in dark
        assert (row["status"] == DIVERGED) == lost
        for column in ("vanilla", "retrained", "vanilla_float", "retrained_float"):
            assert (row[column] == NO_VERDICT) == lost
        assert (cascade[name]["verdicts"][0]["prediction"] == NO_VERDICT) == lost
        answers = dict_of(probes[name]["answers"], "probe", "prediction")
        assert {answers[probe] == NO_VERDICT for probe in ("clean", "alone", "pass 3")} == {lost}
    assert rows(own, "project/fragile-test").keys() == table.keys() - dark
    black = {row["id"]: not to_tensor([decode(row["purified"], max_pixels=10**6)]).any() for row in gallery(own)}
    judged = rows(own, "evaluate/vanilla/fragile-on-set")
    assert black == {name: judged[name]["status"] == DIVERGED for name in black} and any(black.values())
    assert dataset_of(own.root, "project/fragile-test").quarantined == len(dark)

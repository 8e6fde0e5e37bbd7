"""What defenses are fitted with, from training images to the defense; every shard made here instead of in an actor."""

import shutil
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from stl_ray.errors import ConfigError, IncompleteRunError, RunIdentityError, TrainingError
from stl_ray.images import encode_png, to_tensor
from stl_ray.models import build_classifier
from stl_ray.pipeline.defenses import make_defenses
from stl_ray.pipeline.fit import networks
from stl_ray.pipeline.fit.artifacts import assemble, job_of
from stl_ray.pipeline.fit.job import run as fit
from stl_ray.pipeline.fitted import artifacts_of
from stl_ray.pipeline.preflight import preflight
from stl_ray.store import Dataset, Layout
from stl_ray.training.defenses.patches import key_limit, keys_of

KINDS = [
    ("d3", {"atoms": 20, "patch": 6}, {"sparsity": 2, "stride": 6}, {"atoms": 20, "patch": 6, "similarity": 0.6}),
    (
        "diffusion", {"epochs": 2, "side": 16, "batch_size": 4, "width": 8}, {"start": 9, "steps": 2, "eta": 0.5},
        {"epochs": 2, "side": 16, "batch_size": 4, "width": 8, "levels": 120},
    ),
    ("magnet", {"epochs": 2, "side": 16, "batch_size": 4}, {}, {"epochs": 2, "side": 16, "batch_size": 4, "windows": 6}),
    (
        "pixel_defend", {"epochs": 2, "side": 16, "width": 4, "layers": 1, "mixtures": 1}, {"eps_defend": 3},
        {"epochs": 2, "side": 16, "width": 4, "layers": 1, "mixtures": 1, "windows": 6},
    ),
    ("quilting", {"patches": 300}, {"neighbours": 4}, {"patches": 200}),
    pytest.param(
        "quilting", {"patches": 300, "search": "faiss"}, {"neighbours": 4}, {"patches": 300},
        marks=pytest.mark.skipif(find_spec("faiss") is None, reason="pip install faiss-cpu"),
    ),
]  # fmt: skip
"""A defense, options of its recipe, options that are not of it, and another recipe."""


@pytest.fixture(autouse=True)
def training_here(monkeypatch):
    """Trains networks in this process: `tests/integration/test_fit_networks.py` has the same of Ray Train."""

    def trained(fit, training, epochs, identity):
        made = list(training(torch.device("cpu"), None))
        assert len(made) == epochs
        return made[-1].state()

    monkeypatch.setattr(networks, "trained", trained)


@pytest.fixture
def made(experiment_of, finished_run, image_tables, crops):
    """Makes an experiment with training images in shards of the given sizes."""

    def make(name: str, *sizes: int, defenses, seed: int = 0, images=None, **more):
        own = experiment_of(root=name, defenses=defenses, seed=seed, **more)
        images = [encode_png(image) for image in crops(sum(sizes))] if images is None else images
        finished_run(own, Layout(own.root).ingested("train"), *image_tables(images, *sizes))
        return own

    return make


def fitted(experiment, run_here):
    """Makes every artifact; their folders."""
    for one in artifacts_of(experiment):
        if (job := job_of(one)) is not None:
            run_here(job, experiment)
            assemble(one, job)
    return [one.folder for one in artifacts_of(experiment)]


def bytes_of(experiment) -> list[bytes]:
    return [one.storage.read(f"{one.recipe.kind}.safetensors") for one in artifacts_of(experiment)]


@pytest.mark.parametrize(("defense", "recipe", "use", "other"), KINDS)
def test_invariant_an_artifact_is_that_of_its_recipe_whatever_the_shards(
    made, run_here, tmp_path, crops, defense, recipe, use, other
):
    rows = [
        {"name": "one", "defense": defense, "options": recipe},
        {"name": "two", "defense": defense, "options": {**recipe, **use}},
        {"name": "three", "defense": defense, "options": other},
    ]
    own, spread = made(str(tmp_path / "a"), 6, 4, defenses=rows), made(str(tmp_path / "b"), 1, 2, 7, defenses=rows)
    shared, apart = fitted(own, run_here)  # the first two share theirs
    assert fitted(spread, run_here) == [shared, apart]
    assert bytes_of(own) == bytes_of(spread)
    assert job_of(artifacts_of(own)[0]) is None and fitted(own, run_here) == [shared, apart]
    defenses = make_defenses(own)
    images = to_tensor(crops(3))
    first, second = (defenses[name].identity() for name in ("one", "two"))
    assert (first == second) == (not use) and first != defenses["three"].identity()
    assert {name: one.identity() for name, one in make_defenses(spread).items()} == {
        name: one.identity() for name, one in defenses.items()
    }
    loaded = made(
        str(tmp_path / "c"), 1,
        defenses=[{"name": "far", "defense": defense, "options": {**recipe, "load": Layout(own.root).uri(shared)}}],
    )  # fmt: skip
    assert artifacts_of(loaded) == []
    far = make_defenses(loaded)["far"].purify(images, seeds=[0] * 3).images
    assert torch.equal(far, defenses["one"].purify(images, seeds=[0] * 3).images)
    seeded = own.model_copy(update={"seed": 1})
    with pytest.raises(IncompleteRunError, match="stl-ray fit"):
        make_defenses(seeded)


@pytest.mark.parametrize(("defense", "recipe", "use", "other"), KINDS)
def test_refuses_an_artifact_of_other_images_and_says_what_is_missing(
    made, run_here, tmp_path, crops, experiment_of, defense, recipe, use, other
):
    rows = [{"name": "one", "defense": defense, "options": recipe}]
    own = made(str(tmp_path / "a"), 6, 4, defenses=rows)
    with pytest.raises(IncompleteRunError, match="stl-ray fit"):
        make_defenses(own)
    fitted(own, run_here)
    shutil.rmtree(Layout(own.root).uri("ingest/train"))
    made(own.root, 5, defenses=rows)
    for use_it in (lambda: fitted(own, run_here), lambda: make_defenses(own)):
        with pytest.raises(RunIdentityError, match="images"):
            use_it()
    alone = experiment_of(defenses=rows, ingest={"test": {"format": "photographs"}})
    for job in ("fit", "project", "evaluate"):
        with pytest.raises(ConfigError, match="the defense one") as caught:
            preflight(alone, job)
        assert "load: FOLDER" in str(caught.value)


def test_identity_an_image_smaller_than_a_patch_is_set_aside(made, run_here, tmp_path, crops):
    images = [encode_png(image) for image in crops(4)]
    images[2] = encode_png(np.zeros((4, 9, 3), np.uint8))
    rows = [{"name": "quilt", "defense": "quilting", "options": {"patches": 50}}]
    own = made(str(tmp_path / "a"), 4, defenses=rows, images=images)
    (folder,) = fitted(own, run_here)
    (one,) = artifacts_of(own)
    assert len(make_defenses(own)["quilt"].library.patches) == 39  # 13 of each of the other three
    assert folder == one.folder


def test_identity_images_that_the_draw_cannot_choose_are_not_looked_at(made, run_here, tmp_path, crops):
    """Which of them are broken changes nothing, and sets none aside."""
    images = [encode_png(image) for image in crops(130)]
    chosen = [
        len(keys_of(f"id-{number}", 1, seed=0, purpose="quilting patch", limit=key_limit(2, 130))) for number in range(130)
    ]  # fmt: skip
    assert 30 < sum(chosen) < 100
    broken = [image if choice else b"broken" for image, choice in zip(images, chosen, strict=True)]
    rows = [{"name": "quilt", "defense": "quilting", "options": {"patches": 2}}]
    experiments = [
        made(str(tmp_path / name), 100, 0, 30, defenses=rows, images=some)
        for name, some in (("whole", images), ("broken", broken))
    ]
    for own in experiments:
        (one,) = artifacts_of(own)
        job = job_of(one)
        run_here(job, own)
        assert Dataset.open(Layout(own.root).uri(job.runs[0].folder)).quarantined == 0
        assemble(one, job)
    whole, other = (make_defenses(own)["quilt"].library.patches for own in experiments)
    assert len(whole) == 2 and torch.equal(whole, other)


def test_invariant_a_dictionary_is_of_the_patches_where_its_classifier_looks(made, run_here, tmp_path):
    def weights(seed: int) -> None:
        network = build_classifier("small_cnn", ["a", "b"], seed=seed)
        torch.save(network.backbone.state_dict(), tmp_path / "weights.pth")

    weights(1)
    options = {"atoms": 20, "patch": 6}
    rows = [
        {"name": "everywhere", "defense": "d3", "options": options},
        {"name": "salient", "defense": "d3", "options": {**options, "classifier": "looking"}},
    ]
    classifiers = [{"name": "looking", "architecture": "small_cnn", "weights": str(tmp_path / "weights.pth")}]
    own, spread = (
        made(str(tmp_path / name), *sizes, defenses=rows, classifiers=classifiers)
        for name, sizes in (("a", (6, 4)), ("b", (1, 2, 7)))
    )
    everywhere, salient = fitted(own, run_here)
    assert everywhere != salient and fitted(spread, run_here) == [everywhere, salient]
    assert bytes_of(own) == bytes_of(spread)
    assert len(set(bytes_of(own))) == 2
    weights(2)
    with pytest.raises(RunIdentityError, match="classifier"):
        fitted(own, run_here)


def test_refuses_a_dictionary_of_more_atoms_than_patches_that_differ(made, run_here, tmp_path):
    options = {"atoms": 20, "patch": 6, "similarity": 0.01}
    own = made(str(tmp_path / "a"), 4, defenses=[{"name": "one", "defense": "d3", "options": options}])
    with pytest.raises(TrainingError, match="fewer atoms, or a larger similarity; expected 20 atoms"):
        fitted(own, run_here)
    with pytest.raises(IncompleteRunError):
        make_defenses(own)


def test_identity_nothing_to_fit_is_said(experiment_of):
    assert "nothing to fit" in fit(experiment_of())["summary"]

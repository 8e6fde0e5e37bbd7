"""Spaces from elsewhere and from `fit`, as jobs load them; without Ray."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stl_ray.csc import Dictionary
from stl_ray.errors import ArtifactError, ConfigError, IncompleteRunError, InputError, RunIdentityError
from stl_ray.models import build_classifier, save_classifier, seeded
from stl_ray.pipeline import project
from stl_ray.pipeline.defended import load_blocks
from stl_ray.pipeline.defenses import make_defenses
from stl_ray.pipeline.evaluate.substitute import substitutes_of
from stl_ray.pipeline.preflight import preflight
from stl_ray.pipeline.spaces import load_space
from stl_ray.space import Autoencoder, QuasiNaturalSpace, Router, encode, fit_clusters, hash_ids, thumbnails
from stl_ray.store import Dataset, Layout, Storage


def dictionary(seed: int, lmbda: float = 0.2) -> Dictionary:
    filters = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    filters = filters - filters.mean((2, 3), keepdim=True)
    return Dictionary(filters / filters.flatten(1).norm(dim=1)[:, None, None, None], lmbda)


@pytest.fixture
def authors(tmp_path) -> str:
    """An authors' file."""
    file = tmp_path / "4_p5_lm0.3.npy"
    np.save(file, dictionary(7).filters.permute(2, 3, 1, 0).flip(2).numpy())
    return str(file)


@pytest.fixture
def clustered(natural_images) -> QuasiNaturalSpace:
    autoencoder = seeded(Autoencoder, 0).eval()
    clusters = fit_clusters(
        encode(autoencoder, thumbnails(natural_images, 32)), clusters=2, pca_components=4, restarts=1, seed=0
    )
    ids = [f"train/{number}" for number in range(len(natural_images))]
    return QuasiNaturalSpace(
        dictionary(9), (dictionary(0), dictionary(1)), 0.2, Router(autoencoder, clusters, hash_ids(ids), 1)
    )


@pytest.fixture
def with_spaces(experiment_of):
    """Makes an experiment of spaces, and of defenses by their name in the registry and their options."""

    def make(spaces, *defenses, **sections):
        named = [{"name": f"d{n}", "defense": name, "options": own} for n, (name, own) in enumerate(defenses)]
        return experiment_of(spaces=spaces, defenses=named, **sections)

    return make


def fitted(experiment, space: QuasiNaturalSpace) -> QuasiNaturalSpace:
    """The space as `fit` would leave it as the experiment's first."""
    config = experiment.spaces[0]
    made = replace(space, provenance={"fit": config.recipe(), "seed": experiment.seed})
    made.save(Layout(experiment.root).uri(Layout.space(config.name)))
    return made


def test_identity_a_space_is_loaded_from_a_file_a_folder_and_a_root(with_spaces, authors, clustered, tmp_path):
    clustered.save(str(tmp_path / "other" / "spaces" / "a"))
    for place, digest in (
        (authors, QuasiNaturalSpace.from_dictionary(dictionary(7, 0.3)).digest),
        (f"{tmp_path}/other/spaces/a", clustered.digest),
        (f"{tmp_path}/other", clustered.digest),
        (f"file://{tmp_path}/other", clustered.digest),
    ):
        experiment = with_spaces([{"name": "given", "load": place}])
        assert load_space(experiment, experiment.spaces[0]).digest == digest
    experiment = with_spaces([{"name": "given", "load": authors, "lmbda": 0.1}])
    assert load_space(experiment, experiment.spaces[0]).lmbda == 0.1


@pytest.mark.s3
def test_roundtrip_a_file_and_a_space_in_a_bucket_are_loaded_from_there(with_spaces, authors, clustered, s3, ceph):
    options = f"?endpoint_url={ceph.endpoint}"
    Storage.open(s3 + options).write("4_p5_lm0.3.npy", Path(authors).read_bytes())
    clustered.save(f"{s3}/other/spaces/a{options}")
    for place, digest in (
        (f"{s3}/4_p5_lm0.3.npy{options}", QuasiNaturalSpace.from_dictionary(dictionary(7, 0.3)).digest),
        (f"{s3}/other{options}", clustered.digest),
        (f"{s3}/other/spaces/a{options}", clustered.digest),
    ):
        experiment = with_spaces([{"name": "given", "load": place}])
        assert load_space(experiment, experiment.spaces[0]).digest == digest


def test_refuses_what_is_no_space_by_its_place(with_spaces, clustered, tmp_path):
    def loaded(place, **more):
        experiment = with_spaces([{"name": "given", "load": str(tmp_path / place), **more}])
        return load_space(experiment, experiment.spaces[0])

    for name in ("a", "b"):
        clustered.save(str(tmp_path / "other" / "spaces" / name))
    np.save(tmp_path / "mine.npy", np.ones((5, 5, 3, 4), np.float32))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "space.json").write_text("{}")
    for place, error, message in (
        ("nothing", InputError, "nothing: no space here; expected a folder with space.json"),
        ("nothing.npy", InputError, "nothing.npy: no readable .npy array"),
        ("mine.npy", InputError, "mine.npy: no lambda in the file's name; expected K_pS_lmLAMBDA.npy, or lmbda"),
        ("other", InputError, "other: several spaces here; name one; expected one of .*spaces/a, .*spaces/b"),
        ("bad", ArtifactError, "bad/space.safetensors: no readable space artifact"),
    ):
        with pytest.raises(error, match=message):
            loaded(place)
    with pytest.raises(InputError, match="filters break their joint norm convention"):
        loaded("mine.npy", lmbda=0.2)


def test_refuses_a_space_that_was_not_fitted_or_by_another_recipe(with_spaces, clustered):
    experiment = with_spaces([{"name": "natural", "clusters": 2}])
    with pytest.raises(
        IncompleteRunError, match=r"spaces/natural: there is no such space yet; run `stl-ray fit` first"
    ):
        load_space(experiment, experiment.spaces[0])
    fitted(experiment, clustered)
    assert load_space(experiment, experiment.spaces[0]).digest == clustered.digest
    message = r"spaces/natural: fitted by other settings than those at hand; run `stl-ray fit` again; "
    for changed, difference in (
        ({"clusters": 3}, r"expected \{'fit.clusters': 2\}; got \{'fit.clusters': 3\}"),
        ({"clusters": 2, "seed": 5}, r"expected \{'seed': 0\}; got \{'seed': 5\}"),
    ):
        other = with_spaces([{"name": "natural", **changed}])
        with pytest.raises(RunIdentityError, match=message + difference):
            load_space(other, other.spaces[0])


def test_identity_defenses_share_a_space_and_each_has_its_own(with_spaces, authors, clustered):
    experiment = with_spaces(
        [{"name": "natural"}, {"name": "authors", "load": authors}],
        ("stl_cluster", {"space": "natural"}),
        ("stl_cluster", {"space": "natural", "accuracy": "exact"}),
        ("stl", {"space": "authors"}),
        ("stl", {"space": "authors", "lmbda": 0.1}),
        ("stl", {"space": "natural"}),
    )
    fitted(experiment, clustered)
    made = list(make_defenses(experiment).values())
    assert made[0].space is made[1].space
    given = QuasiNaturalSpace.from_dictionary(dictionary(7, 0.3))
    assert [defense.space.digest for defense in made] == [
        clustered.digest, clustered.digest, given.digest, replace(given, lmbda=0.1).digest,
        clustered.universal().digest,
    ]  # fmt: skip
    assert [defense.identity()["lmbda"] for defense in made] == [0.2, 0.2, 0.3, 0.1, 0.2]


def test_identity_a_substitute_has_the_spaces_of_its_own_configuration(with_spaces, authors, clustered, tmp_path):
    clustered.save(str(tmp_path / "elsewhere"))

    def made(name: str, space: str, **sections):
        spaces = [{"name": "authors", "load": space}]
        own = with_spaces(spaces, ("stl", {"space": "authors"}), root=str(tmp_path / name), **sections)
        layout, classifier = Layout(own.root), build_classifier("small_cnn", ["a"], seed=0).eval()
        save_classifier(layout.uri(layout.classifier("vanilla")), classifier, {})
        Storage.open(own.root).write_json(Layout.experiment, own.model_dump(mode="json"))
        return own

    other = made("other", str(tmp_path / "elsewhere"))
    own = made("own", authors, evaluate={"tiers": {"substitute": other.root}})
    found = substitutes_of(own, load_blocks(own, ["a"], "cpu"), ["a"], "cpu")
    assert found["vanilla"]["d0"].defense.space.digest == clustered.universal().digest


def test_identity_images_are_projected_onto_two_spaces_in_one_actor_without_a_fit(
    with_spaces, authors, clustered, crops, image_tables, finished_run, run_here, tmp_path
):
    clustered.save(str(tmp_path / "elsewhere"))
    experiment = with_spaces(
        [{"name": "wide", "load": str(tmp_path / "elsewhere")}, {"name": "authors", "load": authors}],
        ("stl_cluster", {"space": "wide"}),
        ("stl", {"space": "authors"}),
    )
    preflight(experiment)
    finished_run(experiment, "ingest/train", *image_tables(crops(5), 3, 2))
    run_here(project.plan(experiment), experiment)
    layout = Layout(experiment.root)
    first, second = (Dataset.open(layout.uri(layout.projected(name, "train"))) for name in ("d0", "d1"))
    assert set(first.column("cluster")) <= {0, 1} and set(second.column("cluster")) == {-1}
    assert first.rows == second.rows == 5 and first.digest != second.digest
    assert not (tmp_path / "root" / "spaces").exists() and not (tmp_path / "root" / "fit").exists()


def test_refuses_spaces_that_do_not_do_before_any_work(with_spaces, authors, tmp_path):
    spaces = [{"name": "natural"}, {"name": "authors", "load": authors}]
    for defense, message in (
        (("stl", {}), "d0.space: it is not said which space it projects onto; expected one of authors, natural"),
        (("stl", {"space": "author"}), r"d0.space: no space of this experiment; expected 'authors'\?"),
        (
            ("stl_cluster", {"space": "authors"}),
            "d0: stl_cluster: the space has no clusters to choose among; .* got authors, ",
        ),
    ):
        with pytest.raises(ConfigError, match=f"^{message}"):
            preflight(with_spaces(spaces, defense))
    QuasiNaturalSpace.from_dictionary(dictionary(7)).save(str(tmp_path / "one"))
    folder = with_spaces([{"name": "one", "load": str(tmp_path / "one")}], ("stl_cluster", {}))
    preflight(folder)  # whose files it does not read
    with pytest.raises(ConfigError, match=r"^stl_cluster: the space has no clusters to choose among"):
        project.plan(folder)

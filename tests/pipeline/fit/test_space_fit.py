"""The folders of a fit's steps: with another value only the steps that depend on it are others."""

import pytest

from stl_ray.pipeline.fit.job import fits_of, run

STEPS = ("thumbnails", "autoencoder", "latents", "strata", "samples", "dictionaries")
SPACE = {
    "name": "natural",
    "clusters": 4,
    "autoencoder": {"epochs": 3},
    "dictionary": {"filters": 16, "lmbda": 0.2, "images": 100},
}


@pytest.fixture
def folders_of(experiment_of):
    """The folders of the steps of a space, by step."""

    def find(run_seed=0, **space) -> dict[str, str]:
        (fit,) = fits_of(experiment_of(seed=run_seed, spaces=[{**SPACE, **space}]))
        return {step: getattr(fit, step) for step in STEPS}

    return find


@pytest.mark.parametrize(
    ("changed", "others"),
    [
        ({"name": "another"}, ()),
        ({"seed": 0}, ()),
        ({"dictionary": {**SPACE["dictionary"], "lmbda": 0.1}}, STEPS[5:]),
        ({"dictionary": {**SPACE["dictionary"], "filters": 8}}, STEPS[5:]),
        ({"dictionary": {**SPACE["dictionary"], "norm": "per_channel"}}, STEPS[5:]),
        ({"dictionary": {**SPACE["dictionary"], "images": 50}}, STEPS[4:]),
        ({"clusters": 2}, STEPS[3:]),
        ({"references": 50}, STEPS[3:]),
        ({"autoencoder": {"epochs": 4}}, STEPS[1:]),
        ({"autoencoder": {"epochs": 3, "pretrained": "runs/a"}}, STEPS[1:]),
        ({"autoencoder": {"epochs": 3, "side": 64}}, STEPS),
        ({"seed": 1}, STEPS[1:]),
    ],
)
def test_identity_a_step_is_shared_by_those_that_agree_on_what_it_depends_on(folders_of, changed, others):
    first, second = folders_of(), folders_of(**changed)
    assert tuple(step for step in STEPS if first[step] != second[step]) == others
    assert len(set(second.values())) == len(STEPS)


def test_identity_the_seed_of_a_space_stands_for_the_run_seed(folders_of):
    assert folders_of(run_seed=3) == folders_of(run_seed=5, seed=3) != folders_of(run_seed=5)


def test_identity_nothing_is_fitted_where_every_space_is_loaded(experiment_of):
    counts = run(experiment_of(spaces=[{"name": "authors", "load": "64_p8_lm0.2.npy"}]))
    assert counts["images"] == 0 and counts["summary"].startswith("nothing to fit")

import pytest

from stl_ray.pipeline.fit.space_fit import SpaceFit


@pytest.fixture
def fit_of(experiment_of):
    """Makes the fit of the one space of an experiment below the test's folder."""

    def make(autoencoder=None, **sections) -> SpaceFit:
        experiment = experiment_of(spaces=[{"name": "natural", "autoencoder": autoencoder or {}}], **sections)
        return SpaceFit(experiment, experiment.spaces[0])

    return make

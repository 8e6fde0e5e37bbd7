"""What `spaces` takes and refuses, and which space a defense means."""

import re

import pytest
import yaml

from stl_ray.config import Experiment, load_experiment, space_of
from stl_ray.errors import ConfigError

PHOTOGRAPHS = {"format": "photographs"}
MINIMAL = {"name": "test", "root": "runs/test", "ingest": {"train": PHOTOGRAPHS, "test": PHOTOGRAPHS}}


@pytest.fixture
def load(tmp_path):
    """The experiment of some spaces and one defense with these options."""

    def make(spaces=None, **options) -> Experiment:
        values = {**MINIMAL, "defenses": [{"name": "d", "defense": "stl", "options": options}]}
        file = tmp_path / "experiment.yaml"
        file.write_text(yaml.safe_dump(values if spaces is None else {**values, "spaces": spaces}))
        return load_experiment(str(file))

    return make


def test_identity_a_space_is_fitted_unless_it_is_loaded_and_none_that_is_not_listed(load):
    assert load().spaces == ()
    (space,) = load([{"name": "natural"}]).spaces
    assert (space.name, space.load, space.clusters, space.seed) == ("natural", None, 4, None)


def test_roundtrip_of_the_resolved_configuration(load, tmp_path):
    spaces = [
        {"name": "a", "clusters": 2, "dictionary": {"filters": 16}, "seed": 3},
        {"name": "b", "load": "64_p8_lm0.2.npy"},
        {"name": "c", "load": "mine.NPY", "lmbda": 0.1},
        {"name": "d", "load": "s3://bucket/exp/spaces/natural?endpoint_url=http://host:1"},
        {"name": "e", "load": "s3://bucket/64_p8_lm0.2.npy?endpoint_url=http://host:1"},
    ]
    experiment = load(spaces, space="a")
    same = Experiment.model_validate_json(experiment.model_dump_json())
    assert same == experiment
    assert [space.is_dictionary for space in same.spaces] == [False, True, True, False, True]
    assert same.spaces[1].model_dump(mode="json") == {
        "name": "b", "load": f"{tmp_path.cwd()}/64_p8_lm0.2.npy", "lmbda": None
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spaces", "message"),
    [
        ([{"name": "a"}, {"name": "A"}], "spaces: names must differ, and not in case alone; got a, A"),
        ([{"name": "a/b"}], "spaces.0.name: not a name"),
        ([{"clusters": 3}], "spaces.0.name: missing key"),
        (
            [{"name": "a", "load": "x.npy", "clusters": 4, "seed": 1}],
            "spaces.0: a space that is loaded is not fitted: leave out clusters, seed, or load",
        ),
        ([{"name": "a", "load": "folder", "lmbda": 0.1}], "spaces.0: lmbda is that of a .npy dictionary"),
        ([{"name": "a", "lmbda": 0.1}], "spaces.0: lmbda is that of a .npy dictionary"),
        ([{"name": "a", "load": "x.npy", "lmbda": 0}], "spaces.0.lmbda: wrong value; expected greater than 0"),
        ([{"name": "a", "dictionry": {}}], "spaces.0.dictionry: unknown key; expected 'dictionary'?"),
        ([{"name": "a", "load": "s3://key:hidden@bucket/x"}], "spaces.0.load: credentials in a URI"),
    ],
)
def test_refuses_what_is_no_list_of_spaces(load, spaces, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        load(spaces)


def test_identity_a_defense_has_the_space_that_it_names_or_the_only_one(load):
    two = [{"name": "a"}, {"name": "b", "load": "x.npy"}]
    for experiment, name in ((load(two[:1]), "a"), (load(two[1:]), "b"), (load(two, space="b"), "b")):
        assert space_of(experiment, experiment.defenses[0]).name == name


@pytest.mark.parametrize(
    ("spaces", "options", "message"),
    [
        (["wide", "narrow"], {}, "d.space: it is not said which space it projects onto; expected one of narrow, wide"),
        ([], {}, "d.space: it is not said which space it projects onto; expected `spaces: [{name: natural}]`"),
        (["wide"], {"space": "wid"}, "d.space: no space of this experiment; expected 'wide'? (one of wide); got wid"),
    ],
)
def test_refuses_a_defense_whose_space_is_not_known(load, spaces, options, message):
    experiment = load([{"name": name} for name in spaces], **options)
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        space_of(experiment, experiment.defenses[0])

import pytest

from stl_ray.defenses import check_defense, make_defense, required_by
from stl_ray.errors import ConfigError


def test_identity_what_defenses_require():
    required = {name: set(required_by(name)) for name in ("none", "jpeg", "stl", "stl_cluster")}
    stl = {"space", "solver"}
    assert required == {"none": set(), "jpeg": set(), "stl": stl, "stl_cluster": stl}


@pytest.mark.parametrize(
    ("name", "options", "item", "expected"),
    [
        ("jpg", {}, "jpg", "'jpeg'? (one of jpeg, none, stl, stl_cluster, tvm)"),
        ("stl-cluster", {}, "stl-cluster", "'stl_cluster'? (one of jpeg, none, stl, stl_cluster, tvm)"),
        ("jpeg", {"qualty": 3}, "jpeg.qualty", "'quality'? (one of quality)"),
        ("jpeg", {"quality": 0}, "jpeg.quality", "greater than or equal to 1"),
        ("jpeg", {"quality": "high"}, "jpeg.quality", "a valid integer"),
        ("none", {"lmbda": 0.2}, "none.lmbda", "none, it has no options"),
        ("stl", {"lmbda": 0.0}, "stl.lmbda", "greater than 0"),
        ("stl", {"lamda": 0.2}, "stl.lamda", "'lmbda'? (one of accuracy, lmbda, normalization, space)"),
        ("stl_cluster", {"accuracy": "best"}, "stl_cluster.accuracy", "one of default, exact, reference"),
        ("stl", {"space": 3}, "stl.space", "a valid string"),
    ],
)
def test_refuses_unknown_names_and_wrong_options(name, options, item, expected):
    for refuse in (check_defense, lambda name, options: make_defense(name, options, {})):
        with pytest.raises(ConfigError) as caught:
            refuse(name, options)
        assert (caught.value.item, caught.value.expected) == (item, expected)


def test_refuses_an_unknown_name_when_asked_what_it_requires():
    with pytest.raises(ConfigError, match="jpeg"):
        required_by("jpg")

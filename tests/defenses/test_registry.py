import pytest

from stl_ray.config import StlConfig
from stl_ray.defenses import check_defense, make_defense, needs_space
from stl_ray.errors import ConfigError


def test_identity_which_defenses_need_a_space():
    needing = {name: needs_space(name) for name in ("none", "jpeg", "stl", "stl_cluster")}
    assert needing == {"none": False, "jpeg": False, "stl": True, "stl_cluster": True}


@pytest.mark.parametrize(
    ("name", "options", "item", "expected"),
    [
        ("jpg", {}, "jpg", "'jpeg'?"),
        ("stl-cluster", {}, "stl-cluster", "'stl_cluster'?"),
        ("jpeg", {"qualty": 3}, "jpeg.qualty", "'quality'?"),
        ("jpeg", {"quality": 0}, "jpeg.quality", "greater than or equal to 1"),
        ("jpeg", {"quality": "high"}, "jpeg.quality", "a valid integer"),
        ("stl", {"lmbda": 0.2}, "stl.lmbda", "none, it has no options"),
    ],
)
def test_refuses_unknown_names_and_wrong_options(name, options, item, expected):
    for refuse in (check_defense, lambda name, options: make_defense(name, options, space=None, stl=StlConfig())):
        with pytest.raises(ConfigError) as caught:
            refuse(name, options)
        assert (caught.value.item, caught.value.expected) == (item, expected)


def test_refuses_an_unknown_name_when_asked_for_its_space():
    with pytest.raises(ConfigError, match="jpeg"):
        needs_space("jpg")

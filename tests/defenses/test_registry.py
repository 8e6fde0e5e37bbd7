import json

import pytest
import yaml
from pydantic_core import PydanticUndefined

from stl_ray.config import NamedDefense
from stl_ray.defenses import DEFENSES, make_defense, options_of
from stl_ray.errors import ConfigError

NAMES = ", ".join(sorted(DEFENSES))


def test_identity_what_defenses_require():
    required = {name: set(options_of(name, {}).requires) for name in ("none", "jpeg", "stl", "stl_cluster")}
    stl = {"space", "solver"}
    assert required == {"none": set(), "jpeg": set(), "stl": stl, "stl_cluster": stl}


@pytest.mark.parametrize(
    ("name", "options", "item", "expected"),
    [
        ("jpg", {}, "jpg", f"'jpeg'? (one of {NAMES}), or module:function"),
        ("stl-cluster", {}, "stl-cluster", f"'stl_cluster'? (one of {NAMES}), or module:function"),
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
    for refuse in (options_of, lambda name, options: make_defense(name, options, {})):
        with pytest.raises(ConfigError) as caught:
            refuse(name, options)
        assert (caught.value.item, caught.value.expected) == (item, expected)


@pytest.mark.parametrize("name", [*DEFENSES])
def test_roundtrip_every_default_can_be_written_into_a_config(name):
    """Through YAML, a list for several values."""
    row = DEFENSES[name].options
    whole = {
        key: field.default for key, field in row.model_fields.items() if field.default not in (None, PydanticUndefined)
    }
    text = yaml.safe_dump({"name": "d", "defense": name, "options": json.loads(json.dumps(whole))})
    item = NamedDefense.model_validate(yaml.safe_load(text), strict=False)
    found = options_of(name, {**item.options, **({"of": ["none", "x"]} if name == "ensemble" else {})})
    assert {key: getattr(found, key) for key in whole} == whole


def test_refuses_an_unknown_name_when_asked_what_it_requires():
    with pytest.raises(ConfigError, match="jpeg"):
        options_of("jpg", {})

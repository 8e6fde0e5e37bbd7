"""Label selectors: which there are, and which labels match; that Ray's scheduler decides alike is in tests/integration."""

import pytest
from ray._private.label_utils import validate_label_selector

from stl_ray.config import RayConfig
from stl_ray.config.labels import matches


def _selector(expression: str, key: str = "cpu") -> dict[str, str]:
    config = RayConfig.model_validate({"label_selector": {key: expression}})
    assert validate_label_selector(config.label_selector) is None
    return config.label_selector


@pytest.mark.parametrize(
    ("expression", "admitted"),
    [
        ("avx2", ["avx2"]),
        ("!avx2", ["avx512", "", None]),
        ("in(avx2, avx512)", ["avx2", "avx512"]),
        ("in(avx2,avx512)", ["avx2", "avx512"]),
        ("!in(avx2,other)", ["avx512", "", None]),
        ("", [""]),
    ],
)
def test_agrees_with_ray_on_what_a_label_may_be(expression, admitted):
    selector = _selector(expression)
    values = ["avx2", "avx512", "", None]
    assert [value for value in values if matches({} if value is None else {"cpu": value}, selector)] == admitted


def test_every_label_of_a_selector_must_match_and_none_matches_any_node():
    assert matches({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "2"})
    assert not matches({"a": "1", "b": "3"}, {"a": "1", "b": "2"})
    assert matches({}, {}) and matches({"a": "1"}, {})


@pytest.mark.parametrize("key", ["cpu", "ray.io/market-type", "a/b", "x.y_z-0", "a" * 63, "a.b_c.d/e"])
def test_names_of_labels_are_those_of_ray(key):
    assert _selector("x", key) == {key: "x"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"label_selector": {"-cpu": "a"}}, "not the name of a label"),
        ({"label_selector": {"a" * 64: "a"}}, "not the name of a label"),
        ({"label_selector": {".".join(["a" * 60] * 5) + "/a": "a"}}, "not the name of a label"),
        ({"label_selector": {"a." * 100 + "!/a": "a"}}, "not the name of a label"),
        ({"label_selector": {"a/b/c": "a"}}, "not the name of a label"),
        ({"label_selector": {"": "a"}}, "not the name of a label"),
        ({"label_selector": {"cpu": "(a,b)"}}, "not what a label may be"),  # which Ray takes, and no node matches
        ({"label_selector": {"cpu": "in()"}}, "not what a label may be"),
        ({"label_selector": {"cpu": "in(a"}}, "not what a label may be"),
        ({"label_selector": {"cpu": "!"}}, "not what a label may be"),
        ({"label_selector": {"cpu": "!!a"}}, "not what a label may be"),
        ({"label_selector": {"cpu": "a b"}}, "not what a label may be"),
        ({"label_selector": {"cpu": "é"}}, "not what a label may be"),
        ({"label_selector": {"cpu": "a" * 64}}, "not what a label may be"),
        ({"label_selector": {"cpu": 5}}, "valid string"),
        ({"fallback_strategy": [{"label_selector": {"cpu": "a"}}]}, "needs label_selector"),
        ({"label_selector": {"cpu": "a"}, "fallback_strategy": [{}]}, "Field required"),
        ({"label_selector": {"cpu": "a"}, "fallback_strategy": [{"label_selector": {}}]}, "at least 1"),
        ({"label_selector": {"cpu": "a"}, "fallback_strategy": [{"num_cpus": 1}]}, "num_cpus"),
    ],
)
def test_refuses_what_selects_no_node(values, message):
    with pytest.raises(ValueError, match=message):
        RayConfig.model_validate(values, strict=False)

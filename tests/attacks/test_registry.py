import pytest

from stl_ray.attacks import ATTACKS, make_attack
from stl_ray.errors import ConfigError


def test_identity_options_reach_the_attack():
    assert make_attack("bim", {"steps": 3}).model_dump() == {"steps": 3, "relative_step": 0.2}


@pytest.mark.parametrize(
    ("name", "options", "item", "expected"),
    [
        ("fgms", {}, "fgms", f"'fgsm'? (one of {', '.join(sorted(ATTACKS))})"),
        ("zzz", {}, "zzz", f"one of {', '.join(sorted(ATTACKS))}"),
        ("bim", {"step": 3}, "bim.step", "'steps'? (one of relative_step, steps)"),
        ("fgsm", {"steps": 3}, "fgsm.steps", "none, it has no options"),
        ("bim", {"steps": "three"}, "bim.steps", "a valid integer"),
        ("bim", {"steps": 0}, "bim.steps", "greater than or equal to 1"),
    ],
)
def test_refuses_unknown_names_and_wrong_options(name, options, item, expected):
    with pytest.raises(ConfigError) as caught:
        make_attack(name, options)
    assert (caught.value.item, caught.value.expected) == (item, expected)

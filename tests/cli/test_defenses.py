import pytest

from stl_ray.cli import main
from stl_ray.defenses import DEFENSES


def test_identity_every_defense_has_a_line(capsys):
    assert main(["defenses"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(DEFENSES)
    assert all(len(line.split()) > 2 and not line.endswith(".") for line in lines)


@pytest.mark.parametrize("name", DEFENSES)
def test_identity_the_options_of_one_are_explained(capsys, name):
    assert main(["defenses", name]) == 0
    text = capsys.readouterr().out
    for option, field in DEFENSES[name].options.model_fields.items():
        assert f"  {option}: " in text and str(field.description).split("; ")[0] in text
    assert ("  none" in text) == (not DEFENSES[name].options.model_fields)


def test_refuses_an_unknown_one_with_the_nearest(capsys):
    assert main(["defenses", "quiltin"]) == 2
    assert "'quilting'?" in capsys.readouterr().err

import sys

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


OWN = '''
from typing import Annotated, Literal
from pydantic import Field

def smoothed(size: Annotated[int, Field(ge=3, description="side of the window")] = 3, how: Literal["mean", "median"] = "mean", sigma=0.5):
    """Every pixel as its neighbourhood is.

    Source: ours."""
'''


def test_identity_one_of_one_s_own_is_explained_by_its_signature_and_docstring(tmp_path, monkeypatch, capsys):
    (tmp_path / "explained.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["defenses", "explained:smoothed"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Every pixel as its neighbourhood is.",
        "",
        "Source: ours.",
        "",
        'an entry of `defenses`: {name: NAME, defense: "explained:smoothed", options: {...}}, with the options',
        "  size: int [3]",
        "      side of the window",
        "  how: mean | median [mean]",
        "  sigma: bool | int | float | str [0.5]",
    ]
    assert main(["defenses", "explained:smothed"]) == 2
    assert "'smoothed'?" in capsys.readouterr().err

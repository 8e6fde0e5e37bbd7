"""docs/architecture.md names files and functions; they are there."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
NAMED = sorted(
    set(re.findall(r"`([\w/]+\.py): (\w+)`", (REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8")))
)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[f"{file}:{name}" for file, name in NAMED])
def test_identity_what_the_walk_names_is_there(file, name):
    body = ast.parse((REPOSITORY / "stl_ray" / file).read_text(encoding="utf-8")).body
    assert name in {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_invariant_the_walk_names_something():
    assert len(NAMED) > 20

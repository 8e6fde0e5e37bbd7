"""The help of a job explains the sections that its code reads: they are found in the code, so that no list drifts."""

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

import stl_ray
from stl_ray.config import Experiment
from stl_ray.config.help import JOBS, SHARED, explain_keys

PACKAGE = Path(stl_ray.__file__).parent

# Where a job's code begins. The report reads the experiment that was stored with the results, not the one at hand.
ENTRANCES = {job: (f"stl_ray.pipeline.{job}", "run") for job in JOBS} | {"report": ("stl_ray.cli.jobs", "_run_report")}
NOT_AT_HAND = "stl_ray.report"

Place = tuple[str, str]
"""A module, and a name at its top."""


@cache
def _module(name: str) -> tuple[dict[str, list[ast.AST]], dict[str, Place]]:
    """What the top of a module binds, by name; and what its imports, at any depth, bind."""
    origin = importlib.util.find_spec(name).origin
    tree = ast.parse(Path(origin).read_text())
    bound: dict[str, list[ast.AST]] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.setdefault(node.name, []).append(node)
        else:
            for target in ast.walk(node):
                if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                    bound.setdefault(target.id, []).append(node)
    imported = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stl_ray")
        for alias in node.names
    }
    return bound, imported


def _is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def _resolved(place: Place) -> Place | None:
    """Where a name is defined, through whatever re-exports it; None outside the package and for modules."""
    module, name = place
    while True:
        bound, imported = _module(module)
        if name in bound:
            return module, name
        if name not in imported or _is_module(".".join(imported[name])):
            return None
        module, name = imported[name]


def _referenced(module: str, node: ast.AST) -> Iterator[Place]:
    """What a piece of code refers to: names, and attributes of imported modules."""
    _, imported = _module(module)
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield module, part.id
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in imported:
            owner = ".".join(imported[part.value.id])
            if _is_module(owner):
                yield owner, part.attr


def _read(entrance: Place) -> set[str]:
    """The keys of an experiment that the code from an entrance on reads."""
    found: set[str] = set()
    reached: set[Place] = set()
    waiting = [entrance]
    while waiting:
        place = _resolved(waiting.pop())
        if place is None or place in reached or place[0].startswith(NOT_AT_HAND):
            continue
        reached.add(place)
        for node in _module(place[0])[0][place[1]]:
            found |= {
                part.attr
                for part in ast.walk(node)
                if isinstance(part, ast.Attribute)
                and part.attr in Experiment.model_fields
                and ast.unparse(part.value).rpartition(".")[2].strip("_") == "experiment"
            }
            waiting += _referenced(place[0], node)
    return found


@pytest.mark.parametrize("job", JOBS)
def test_identity_the_help_explains_the_sections_that_the_job_reads(job):
    assert set(JOBS[job].sections) == _read(ENTRANCES[job]) - set(SHARED)


def test_identity_every_section_is_read_by_a_job():
    """Of a search that loses its way."""
    assert {"ingest", "root"} <= _read(ENTRANCES["ingest"])
    assert set().union(*map(_read, ENTRANCES.values())) == set(Experiment.model_fields) - {"name"}


def _leaves(model, prefix=""):
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def test_certificate_the_keys_of_a_recipe_are_explained_once():
    """Those of a classifier are the keys of `train`; only what `train` does not have is listed."""
    lines = explain_keys("train").splitlines()
    below = [line.split(":")[0].strip() for line in lines if line.startswith("  classifiers.N.re")]
    assert below == [
        "classifiers.N.recipe",
        "classifiers.N.retrain",
        *(f"classifiers.N.retrain.{key}" for key in ("start", "defenses", "projection")),
    ]
    for key in ("recipe", "retrain"):
        place = next(n for n, line in enumerate(lines) if line.startswith(f"  classifiers.N.{key}: section | absent"))
        assert "the keys of train that differ for it" in lines[place + 1]
    assert sum(".epochs: int" in line for line in lines if "spaces" not in line) == 1


def test_every_key_is_explained_by_the_help_of_a_job():
    text = "\n".join(explain_keys(job) for job in JOBS)
    for path, field in _leaves(Experiment):
        assert field.description, path
        assert f"  {path}: " in text, path

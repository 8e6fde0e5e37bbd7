"""Fresh interpreters: what is light stays light."""

import subprocess
import sys

import pytest


def _loaded(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('MODULES', *sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in result.stdout.partition("MODULES")[2].split()}


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import stl_ray", {"ray", "torch"}),
        ("import stl_ray.report", {"ray", "torch"}),
        ("import stl_ray.pipeline.ingest", {"torch"}),
        ("import stl_ray.store, stl_ray.config, stl_ray.statistics, stl_ray.seeding", {"ray", "torch"}),
        ("from stl_ray import QuasiNaturalSpace, SparseTransformationLayer", {"ray"}),
        ("from stl_ray import attack, evaluate", {"ray", "pandas"}),
        ("import stl_ray.training, stl_ray.evaluation, stl_ray.attacks, stl_ray.defenses", {"ray"}),
        ("from stl_ray.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass", {"ray", "torch"}),
        ("from stl_ray.cli import main\ntry: main(['fit', '--help'])\nexcept SystemExit: pass", {"ray", "torch"}),
    ],
)
def test_invariant_imports_stay_light(code, forbidden):
    loaded = _loaded(code)
    assert "stl_ray" in loaded
    assert not loaded & forbidden


def test_refuses_unknown_names_of_the_package():
    import stl_ray

    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = stl_ray.Nothing

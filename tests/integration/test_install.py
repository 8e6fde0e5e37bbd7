"""What `pip` makes of the sources, with a C++ compiler and without, and that it works; nothing is downloaded."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

REPOSITORY = Path(__file__).parents[2]

SOLVE = """
import json, warnings
import torch
import stl_ray
from stl_ray.config.loader import bundled
from stl_ray.csc.cbpdn import solve_cbpdn
from stl_ray.csc.dictionary import Dictionary
try:
    from stl_ray.csc import _native
    native = _native.__file__
except ImportError:
    native = None
torch.set_num_threads(1)
torch.manual_seed(0)
filters = torch.nn.functional.normalize(torch.randn(4, 3 * 5 * 5), dim=1).reshape(4, 3, 5, 5)
images = 0.1 * torch.randn(2, 3, 16, 16)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    codes = [solve_cbpdn(images, Dictionary(filters, 0.1), 0.1, method=m) for m in ("auto", "auto", "admm")]
print(json.dumps({
    "package": stl_ray.__file__,
    "configuration": bundled("quickstart"),
    "native": native,
    "warnings": [str(w.message) for w in caught if w.category is RuntimeWarning],
    "same": torch.equal(codes[0].maps, codes[2].maps) and torch.equal(codes[0].synthesis, codes[2].synthesis),
}))
"""


def _wheel(folder: Path, **environment: str) -> Path:
    """The wheel that pip builds from the sources as they are here, with this environment's build tools."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    build = subprocess.run(
        [*command, str(REPOSITORY)], env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True
    )
    assert build.returncode == 0, build.stdout + build.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def _installed(wheel: Path, folder: Path) -> Path:
    """The folder with the files of a wheel."""
    with ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def _run(installed: Path, code: str, *arguments: str) -> str:
    """What Python code says in a fresh interpreter that has the wheel and not the checkout."""
    others = str(Path(torch.__file__).parents[1])
    path = f"import sys; sys.path[:0] = [{str(installed)!r}, {others!r}]\n"
    # -S: the environment's own stl_ray, which may be editable, stays out.
    command = [sys.executable, "-I", "-S", "-c", path + code, *arguments]
    run = subprocess.run(command, cwd=installed, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def _solve(installed: Path) -> dict:
    """What a fresh interpreter finds in the wheel, and codes by it."""
    found = json.loads(_run(installed, SOLVE).splitlines()[-1])
    assert Path(found["package"]).is_relative_to(installed)
    assert Path(found["configuration"]).is_relative_to(installed)
    return found


def test_invariant_without_a_compiler_the_package_works_and_says_once_what_is_lost(tmp_path):
    wheel = _wheel(tmp_path, CC="/bin/false", CXX="/bin/false")
    assert wheel.name.endswith("-py3-none-any.whl")
    found = _solve(_installed(wheel, tmp_path / "installed"))
    assert found["native"] is None
    assert found["same"]
    (warning,) = found["warnings"]
    assert "native core" in warning


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of the wheel that a C++ compiler gives; the test skips where there is none."""
    if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("wheel")
    wheel = _wheel(folder)
    assert not wheel.name.endswith("-any.whl")
    return _installed(wheel, folder / "installed")


@pytest.mark.usefixtures("tiny")  # in the process of the next test, which uses the same wheel
@pytest.mark.ray
@pytest.mark.faults
def test_invariant_with_a_compiler_the_wheel_holds_the_native_core(installed):
    found = _solve(installed)
    assert Path(found["native"]).is_relative_to(installed)
    assert not found["warnings"]


@pytest.mark.ray
@pytest.mark.faults
def test_the_installed_package_verifies_and_reports_an_experiment(installed, tiny, write_config, tmp_path):
    command = "from stl_ray.cli import main; sys.exit(main(sys.argv[1:]))"
    assert "FAILED" not in _run(installed, command, "verify", str(tiny))
    shutil.copytree(tiny, tmp_path / "root")
    shutil.rmtree(tmp_path / "root" / "report")
    _run(installed, command, "report", write_config(tmp_path))
    page = (tmp_path / "root" / "report" / "report.html").read_text()
    for part in (
        "Vanilla classifier",
        "Retrained classifiers",
        "STL (cluster)",
        "Filter atlas",
        "Learning curves",
        "Provenance",
    ):
        assert part in page, part

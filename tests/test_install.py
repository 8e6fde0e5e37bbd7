"""What `pip` makes of the sources, with a C++ compiler and without; nothing is downloaded."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

REPOSITORY = Path(__file__).parents[1]

SOLVE = """
import json, sys, warnings
sys.path[:0] = [sys.argv[1], sys.argv[2]]
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


def _solve(wheel: Path, folder: Path) -> dict:
    """What a fresh interpreter without the checkout finds in the wheel."""
    with ZipFile(wheel) as archive:
        archive.extractall(folder)
    # -S: the environment's own stl_ray, which may be editable, stays out.
    command = [sys.executable, "-I", "-S", "-c", SOLVE, str(folder), sysconfig.get_path("purelib")]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert Path(found["package"]).is_relative_to(folder)
    assert Path(found["configuration"]).is_relative_to(folder)
    return found


def test_invariant_without_a_compiler_the_package_works_and_says_once_what_is_lost(tmp_path):
    wheel = _wheel(tmp_path, CC="/bin/false", CXX="/bin/false")
    assert wheel.name.endswith("-py3-none-any.whl")
    found = _solve(wheel, tmp_path / "installed")
    assert found["native"] is None
    assert found["same"]
    (warning,) = found["warnings"]
    assert "native core" in warning


@pytest.mark.skipif(
    not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), reason="no C++ compiler"
)
def test_invariant_with_a_compiler_the_wheel_holds_the_native_core(tmp_path):
    wheel = _wheel(tmp_path)
    assert not wheel.name.endswith("-any.whl")
    found = _solve(wheel, tmp_path / "installed")
    assert Path(found["native"]).is_relative_to(tmp_path)
    assert not found["warnings"]

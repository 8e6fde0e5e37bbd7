"""The wheel that travels: without requirements, named by its content, and refused without its native core."""

import shutil
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path
from zipfile import ZipFile

import pytest

from stl_ray.errors import InputError
from stl_ray.runtime.submission.wheel import installed_files, pack, write_wheel

ABOUT = "stl_ray-0.1.0.dist-info"
NATIVE = "stl_ray/csc/_native.cpython-311-x86_64-linux-gnu.so"
FILES = {
    "stl_ray/__init__.py": b"name = 'travels'\n",
    NATIVE: b"machine code",
    f"{ABOUT}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{ABOUT}/METADATA": b"Metadata-Version: 2.1\nName: stl-ray\nVersion: 0.1.0\nRequires-Dist: torch>=2.11\n"
    b'Provides-Extra: dev\nRequires-Dist: pytest; extra == "dev"\n\n# stl-ray\n\nRequires-Dist: a line of the page\n',
    f"{ABOUT}/RECORD": b"of another time",
}


def _zipped(path: Path, files: dict[str, bytes]) -> Path:
    with ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def _installed(wheel: Path, folder: Path) -> PathDistribution:
    """What Ray does with a wheel on a node."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", str(wheel), "--target", str(folder)]
    subprocess.run(command, check=True)
    return PathDistribution(folder / ABOUT)


def test_pip_installs_it_on_a_node_without_asking_for_requirements(tmp_path):
    _installed(write_wheel(FILES, tmp_path), tmp_path / "node")
    assert (tmp_path / "node" / NATIVE).read_bytes() == b"machine code"
    metadata = (tmp_path / "node" / ABOUT / "METADATA").read_text()
    assert (
        metadata
        == "Metadata-Version: 2.1\nName: stl-ray\nVersion: 0.1.0\n\n# stl-ray\n\nRequires-Dist: a line of the page\n"
    )


def test_roundtrip_an_installation_gives_the_wheel_that_it_was_made_of(tmp_path):
    wheel = write_wheel(FILES, tmp_path)
    package = _installed(wheel, tmp_path / "node")
    again = tmp_path / "again"
    again.mkdir()
    assert write_wheel(installed_files(package), again).read_bytes() == wheel.read_bytes()


def test_identity_the_name_changes_with_the_content_and_with_nothing_else(tmp_path):
    name = write_wheel(FILES, tmp_path).name
    assert name == write_wheel(dict(reversed(FILES.items())), tmp_path).name
    assert name != write_wheel({**FILES, "stl_ray/__init__.py": b"name = 'other'\n"}, tmp_path).name
    assert name.startswith("stl_ray-0.1.0-0x") and name.endswith("-py3-none-any.whl")


def test_refuses_a_wheel_without_the_native_core_unless_it_is_meant(tmp_path):
    bare = {name: data for name, data in FILES.items() if name != NATIVE}
    wheel = _zipped(tmp_path / "bare.whl", bare)
    with pytest.raises(InputError, match=r"expected the native core.*got none"):
        pack(tmp_path, wheel=wheel)
    assert pack(tmp_path, wheel=wheel, pure=True).is_file()


@pytest.mark.parametrize(
    "files", [None, {"a": b"b"}, {"other-1.dist-info/WHEEL": b"Tag: py3-none-any", "other-1.dist-info/METADATA": b""}]
)
def test_refuses_what_is_no_wheel_of_this_package(tmp_path, files):
    wheel = tmp_path / "stl_ray.whl"
    if files is not None:
        _zipped(wheel, files)
    with pytest.raises(InputError, match=r"no readable wheel|not a wheel of stl-ray"):
        pack(tmp_path, wheel=wheel, pure=True)


@pytest.mark.parametrize("change", ["altered", "missing"])
def test_refuses_an_installation_that_was_altered(tmp_path, change):
    package = _installed(write_wheel(FILES, tmp_path), tmp_path / "node")
    file = tmp_path / "node" / "stl_ray" / "__init__.py"
    if change == "altered":
        file.write_text("name = 'mallory'\n")
    else:
        file.unlink()
    with pytest.raises(InputError, match=r"__init__\.py: not what was installed"):
        installed_files(package)


def test_refuses_a_source_that_cannot_be_built_with_what_pip_says(tmp_path, monkeypatch):
    broken = tmp_path / "checkout"
    broken.mkdir()
    (broken / "pyproject.toml").write_text("[build-system\n")
    monkeypatch.setattr("stl_ray.runtime.submission.wheel._checkout", lambda: broken)
    with pytest.raises(InputError, match=r"checkout: cannot build the wheel; pip says:\n"):
        pack(tmp_path)
    shutil.rmtree(broken)

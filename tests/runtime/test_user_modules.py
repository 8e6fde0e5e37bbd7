"""The modules that travel with a user's own classifiers: which files, and what is refused."""

import sys

import pytest

from stl_ray.errors import ConfigError
from stl_ray.models import source_digest
from stl_ray.runtime import user_modules
from stl_ray.runtime.user_modules import travelling


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder in which Python finds modules; what was imported from it is forgotten."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path / "place")
    (tmp_path / "place").mkdir()
    yield tmp_path / "place"
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(place, files: dict[str, str]) -> None:
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)


PACKAGE = {
    "packaged/__init__.py": "",
    "packaged/nets/__init__.py": "def make(): pass",
    "packaged/nets/weights.pt": "any bytes",
    "packaged/.ipynb_checkpoints/nets.py": "def make(): old",
    "packaged/__pycache__/old.pyc": "",
    "packaged/.gitignore": "*.pt",
    "beside.txt": "of no concern",
}


def test_roundtrip_a_package_travels_whole_without_hidden_files_and_a_module_as_its_file(place, tmp_path):
    write(place, {**PACKAGE, "alone.py": "def make(): pass"})
    package, alone = travelling(["packaged.nets:make", "alone:make", "packaged.nets:other"])
    assert str(package) == "packaged, 3 files, 0.0 MB" and str(alone) == "alone.py, 1 file, 0.0 MB"
    copies = [module.copied(tmp_path / "copies") for module in (package, alone)]
    assert copies == [tmp_path / "copies" / "packaged", tmp_path / "copies" / "alone.py"]
    found = {path.relative_to(tmp_path / "copies").as_posix() for path in (tmp_path / "copies").rglob("*.*")}
    assert found == {"packaged/__init__.py", "packaged/nets/__init__.py", "packaged/nets/weights.pt", "alone.py"}
    assert (copies[0] / "nets" / "weights.pt").read_text() == "any bytes"


def test_identity_weights_beside_the_source_change_what_travels_and_hidden_files_nothing(place):
    write(place, PACKAGE)
    first, source = travelling(["packaged.nets:make"]), source_digest("packaged.nets:make")
    write(place, {"packaged/.ipynb_checkpoints/nets.py": "def make(): older"})
    assert travelling(["packaged.nets:make"]) == first and source_digest("packaged.nets:make") == source
    write(place, {"packaged/nets/weights.pt": "other bytes"})
    assert travelling(["packaged.nets:make"])[0].digest != first[0].digest
    assert source_digest("packaged.nets:make") == source


def test_what_is_installed_does_not_travel():
    assert travelling(["torchvision.models:alexnet", "stl_ray.models.small_cnn:small_cnn", "json:loads"]) == []


def test_refuses_what_cannot_travel(place, monkeypatch):
    write(
        place, {"loose/nets.py": "def make(): pass", "large/__init__.py": "def make(): pass", "large/w.pt": "w" * 3000}
    )
    with pytest.raises(
        ConfigError, match=r"loose.nets:make: loose cannot be sent .* a folder loose with an __init__.py"
    ):
        travelling(["loose.nets:make"])
    monkeypatch.setattr(user_modules, "LARGEST", 2000)
    with pytest.raises(ConfigError, match=r"large:make: large is too large .*`weights`.*w.pt is the largest"):
        travelling(["large:make"])
    with pytest.raises(ConfigError, match=r"nowhere:make: nowhere cannot be imported \(ModuleNotFoundError"):
        travelling(["nowhere:make"])

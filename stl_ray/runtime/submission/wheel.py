"""The package as a wheel that the nodes of a cluster install before a job, native core included.

Ray installs a wheel of `py_modules` by `pip install WHEEL --target FOLDER`, which ignores what a node has installed
already: with its requirements the wheel would bring another PyTorch and another Ray to every node. So it travels without
them. Ray also takes two wheels of one name for the same: so the build tag in the name is a digest of the content. Nothing
else is in the bytes, no time and no path, so that the same package is uploaded once.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import stl_ray
from stl_ray.errors import InputError

_NATIVE = re.compile(r"stl_ray/csc/_native\..*\.so")
_NEEDS = re.compile(r"(Requires-Dist|Provides-Extra): .*\n")
# Files that an installation adds to a wheel's.
_INSTALLED = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
_LINES_OF_A_FAILED_BUILD = 15


def pack(folder: Path, *, wheel: Path | None = None, pure: bool = False) -> Path:
    """Write the wheel that is sent.

    Args:
        folder: where to.
        wheel: a wheel of this package to take, such as one for the nodes' platform; None: the running package,
            built anew from a checkout, collected from an installation.
        pure: take it without the native core as well.

    Returns:
        Its path.

    Raises:
        InputError: if there is no such wheel, it is of something else, it cannot be built, an installed file was
            altered, or the native core is missing.
    """
    if wheel is None:
        checkout = _checkout()
        with tempfile.TemporaryDirectory() as built:
            files = _unzipped(_build(checkout, Path(built))) if checkout else installed_files(distribution("stl-ray"))
    else:
        files = _unzipped(wheel)
    if not pure and not any(_NATIVE.fullmatch(name) for name in files):
        raise InputError(
            "projections on the CPU would be slow; docs/installing.md says what the core needs, --pure sends it as it is",
            item=wheel or "the package", expected="the native core, stl_ray/csc/_native*.so", got="none",
        )  # fmt: skip
    return write_wheel(files, folder)


def installed_files(package: Distribution) -> dict[str, bytes]:
    """The files of an installed distribution that came from its wheel.

    Raises:
        InputError: if one was altered since, or there is no record of them.
    """
    files = {}
    for file in package.files or []:
        if ".." in file.parts or "__pycache__" in file.parts or file.name in _INSTALLED:
            continue
        path = Path(str(file.locate()))
        content = path.read_bytes() if path.is_file() else None
        if content is None or (file.hash and _hash(content) != f"{file.hash.mode}={file.hash.value}"):
            raise InputError("not what was installed; install the package again", item=path)
        files[file.as_posix()] = content
    if not files:
        raise InputError("no record of its files; install it by pip, or give --wheel", item="stl-ray")
    return files


def write_wheel(files: Mapping[str, bytes], folder: Path) -> Path:
    """Write a wheel without requirements, named by its content.

    Args:
        files: the files of a wheel by their names in it; a RECORD among them is made anew.
        folder: where to.
    """
    about = next((name.partition("/")[0] for name in files if name.endswith(".dist-info/WHEEL")), None)
    if about is None or not about.startswith("stl_ray-"):
        raise InputError("not a wheel of stl-ray", item=about, expected="stl_ray-VERSION.dist-info")
    content = {name: data for name, data in files.items() if name != f"{about}/RECORD"}
    content[f"{about}/METADATA"] = _without_needs(content[f"{about}/METADATA"])
    tags = [
        line.removeprefix("Tag: ") for line in content[f"{about}/WHEEL"].decode().splitlines() if line[:4] == "Tag:"
    ]
    python, abi, _ = tags[0].split("-")
    platforms = ".".join(tag.split("-")[2] for tag in tags)
    record = "".join(f"{name},{_hash(data)},{len(data)}\n" for name, data in sorted(content.items()))
    digest = hashlib.sha256(record.encode()).hexdigest()[:12]
    content[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n".encode()
    path = folder / f"{about.removesuffix('.dist-info')}-0x{digest}-{python}-{abi}-{platforms}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(content.items()):
            entry = zipfile.ZipInfo(name)  # dated 1980, whenever it is written
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return path


def _checkout() -> Path | None:
    """The checkout that the running package is read from; None for an installation."""
    try:
        source = json.loads(distribution("stl-ray").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return Path(stl_ray.__file__).resolve().parents[1]
    if source.get("dir_info", {}).get("editable"):
        return Path(unquote(urlsplit(source["url"]).path))
    return None


def _build(checkout: Path, folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]
    if find_spec("scikit_build_core") and find_spec("nanobind"):
        command.append("--no-build-isolation")  # what it would download is here
    tools = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])  # CMake may be there alone
    command += ["--wheel-dir", str(folder), str(checkout)]
    environment = {**os.environ, "PATH": tools}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="backslashreplace")
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()[-_LINES_OF_A_FAILED_BUILD:]
        raise InputError("cannot build the wheel; pip says:\n  " + "\n  ".join(lines), item=checkout)
    return next(folder.glob("*.whl"))


def _unzipped(wheel: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return {entry.filename: archive.read(entry) for entry in archive.infolist() if not entry.is_dir()}
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"no readable wheel ({error})", item=wheel) from error


def _without_needs(metadata: bytes) -> bytes:
    head, blank, description = metadata.decode().partition("\n\n")
    return (_NEEDS.sub("", head + "\n").rstrip("\n") + blank + description).encode()


def _hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")

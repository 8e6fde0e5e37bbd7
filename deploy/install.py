"""Install this checkout, with an extra, into the environment whose Python runs this: what `make` does.

    .venv/bin/python deploy/install.py dev

uv takes less than half of pip's time and says what it downloads. It is the one on the PATH, else the one that pip can fetch; without either,
and where it fails, pip installs. uv reads none of pip's configuration, so that the indexes, constraints and certificates that pip has
are handed to it.
"""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}
"""By pip's name, the variable from which uv takes the same."""

_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def main(extra: str) -> int:
    """The exit status of what installed last."""
    target = ("--editable", f".[{extra}]")
    if _by_uv(target):
        return 0
    sys.stderr.write("installing with pip, which takes some minutes; uv could not (above), or is not here\n")
    return subprocess.run([*_PIP, "install", *target], check=False).returncode


def _by_uv(target: Sequence[str]) -> bool:
    """Whether uv installed it, and what it chose works."""
    uv = _uv()
    if not uv:
        return False
    pip = settings(subprocess.run([*_PIP, "config", "list"], capture_output=True, text=True, check=False).stdout)
    # The native core is built again only where uv is told that its sources may have changed; and uv, unlike pip, compiles to
    # bytecode only where it is told, without which every worker may compile PyTorch for itself (PYTHONDONTWRITEBYTECODE).
    options = ["--python", sys.executable, "--compile-bytecode", "--reinstall-package", "stl-ray"]
    command = [uv, "pip", "install", *options, *target]
    offline = ["--no-index"] if pip.get("no-index", "") in ("1", "true", "yes", "on") else []
    if subprocess.run([*command, *offline], env=environment(pip, os.environ), check=False).returncode:
        return False
    if subprocess.run([sys.executable, "-c", "import torchvision"], check=False).returncode == 0:
        return True
    # Of several indexes each may have another build of torch than torchvision was made for.
    subprocess.run([uv, "pip", "uninstall", "--python", sys.executable, "torch", "torchvision"], check=False)
    return False


def settings(configured: str) -> dict[str, str]:
    """What pip was told, by pip's name; several values with a space between.

    Args:
        configured: what `pip config list` prints, a line `SECTION.KEY='VALUE'` each.
    """
    found: dict[str, dict[str, str]] = {}
    for line in configured.splitlines():
        place, _, value = line.partition("=")
        section, _, key = place.rpartition(".")
        found.setdefault(section, {})[key] = " ".join(ast.literal_eval(value).split())
    # pip's own order: the command's section stands over the global one, variables over both.
    return {**found.get("global", {}), **found.get("install", {}), **found.get(":env:", {})}


def environment(pip: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """The environment for uv: pip's settings in uv's variables, where `base` does not have them already."""
    ours = {name: _listed(key, pip[key]) for key, name in SETTINGS.items() if key in pip}
    # pip takes the best version of all indexes, uv by default that of the first index with the name.
    return {"UV_INDEX_STRATEGY": "unsafe-best-match", **ours, **base}


def _listed(key: str, value: str) -> str:
    return value.replace(" ", ",") if key == "find-links" else value


def _uv() -> str | None:
    """Where uv is; fetched into the environment where it is not on the PATH."""
    found = shutil.which("uv")
    if found:
        return found
    subprocess.run([*_PIP, "install", "--quiet", "uv"], stderr=subprocess.DEVNULL, check=False)
    return shutil.which("uv", path=str(Path(sys.executable).parent))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

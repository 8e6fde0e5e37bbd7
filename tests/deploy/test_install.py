"""deploy/install.py: what pip is told of indexes is told to uv, whatever the way in which pip was told."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "deploy" / "install.py"

CONFIGURATION = """
[global]
index-url = https://of.everything/simple
extra-index-url =
    https://one/simple
    https://two/simple
constraint = /etc/pip/constraints.txt
[install]
find-links = /wheels /more
[list]
format = columns
"""


@pytest.fixture
def installer() -> dict:
    return runpy.run_path(str(FILE))


def of_pip(tmp_path: Path, **variables: str) -> str:
    """What pip itself says of the configuration above."""
    file = tmp_path / "pip.conf"
    file.write_text(CONFIGURATION)
    own = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PIP_CONFIG_FILE": str(file), **variables}
    command = [sys.executable, "-m", "pip", "config", "list"]
    return subprocess.run(command, env=own, capture_output=True, text=True, check=True).stdout


def test_settings_of_pip_reach_uv_variables_over_files_and_the_command_over_global(installer, tmp_path):
    configured = of_pip(tmp_path, PIP_INDEX_URL="https://of.the.variable/simple", PIP_CERT="/certificates.pem")
    assert installer["environment"](installer["settings"](configured), {"HOME": "/home/anyone"}) == {
        "HOME": "/home/anyone",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_DEFAULT_INDEX": "https://of.the.variable/simple",
        "UV_INDEX": "https://one/simple https://two/simple",
        "UV_CONSTRAINT": "/etc/pip/constraints.txt",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/certificates.pem",
    }


def test_variables_of_uv_that_are_given_stand(installer, tmp_path):
    given = {"UV_DEFAULT_INDEX": "https://given/simple", "UV_INDEX_STRATEGY": "first-index"}
    assert given.items() <= installer["environment"](installer["settings"](of_pip(tmp_path)), given).items()


def test_every_setting_has_a_variable_that_uv_knows(installer):
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if uv is None:
        pytest.skip("there is no uv here")
    said = subprocess.run([uv, "pip", "install", "--help"], capture_output=True, text=True, check=True).stdout
    assert all(name in said for name in installer["SETTINGS"].values() if name != "SSL_CERT_FILE")

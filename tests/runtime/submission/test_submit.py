"""What a submission says of itself: its id, and what of an environment travels. tests/integration has a real cluster."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stl_ray.config import load_experiment
from stl_ray.errors import ConfigError
from stl_ray.runtime.submission.submit import LEFT_OUT, environment_of, submission_id
from stl_ray.runtime.user_modules import UserModule

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_roundtrip_the_resolved_configuration_travels_as_yaml(tmp_path, config):
    experiment = load_experiment(str(config), ["train.weight_decay=5e-5"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False))
    assert load_experiment(str(tmp_path / "config.yaml")) == experiment


def test_identity_an_id_names_the_job_the_experiment_and_the_resolved_configuration(monkeypatch):
    config = str(CONFIGS[0])
    experiment = load_experiment(config)
    name = submission_id("project", experiment)
    assert name.startswith(f"project-{experiment.name}-") and len(name.rpartition("-")[2]) == 12
    assert submission_id("project", load_experiment(config, [f"seed={experiment.seed}"])) == name
    assert submission_id("fit", experiment).rpartition("-")[2] == name.rpartition("-")[2]
    assert submission_id("project", load_experiment(config, ["seed=7"])) != name
    assert submission_id("project", experiment, [UserModule("own", {}, 0, "its digest")]) != name
    monkeypatch.setattr("stl_ray.runtime.submission.submit.__version__", "9")
    assert submission_id("project", experiment) != name


def test_settings_travel_and_secrets_never(monkeypatch):
    secrets = dict.fromkeys([*LEFT_OUT, "RAY_AUTH_TOKEN", "HF_TOKEN"], "secret")
    settings = {"AWS_ENDPOINT_URL": "http://s3:9000", "AWS_REGION": "eu-1", "RAY_AUTH_MODE": "token"}
    passed, left_out = environment_of({**secrets, **settings, "AWS_DEFAULT_REGION": "", "HOME": "/home/me"})
    assert passed == settings
    assert left_out == list(LEFT_OUT)


def test_refuses_a_setting_that_has_credentials_in_it():
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL: credentials in a URI") as refused:
        environment_of({"AWS_ENDPOINT_URL": "http://me:hunter2@s3:9000"})
    assert "hunter2" not in str(refused.value)


def test_says_what_to_install_where_the_job_api_is_not():
    code = "import sys; sys.modules['aiohttp'] = None; from stl_ray.cli import main; sys.exit(main(['cancel', 'any']))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1 and "expected pip install 'ray[default]'" in result.stderr
    assert "Traceback" not in result.stderr

"""deploy/kuberay: a RayJob for every job, rendered by kustomize as `kubectl apply -k` renders it."""

import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from stl_ray.cli import parser
from stl_ray.config import load_experiment
from stl_ray.config.help import JOBS

FOLDER = Path(__file__).parents[2] / "deploy" / "kuberay"
CONFIG = "/etc/stl-ray/experiment.yaml"

# Of ray-operator/apis/ray/v1 (KubeRay 1.5): what we use of a RayJob; a misspelt field would be dropped in silence.
FIELDS = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {
        "entrypoint", "submissionMode", "backoffLimit", "submitterConfig", "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished", "rayClusterSpec",
    },
    "spec.rayClusterSpec": {
        "rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs",
    },
    "spec.rayClusterSpec.authOptions": {"mode"},
    "spec.rayClusterSpec.autoscalerOptions": {"idleTimeoutSeconds", "upscalingMode"},
    "spec.rayClusterSpec.headGroupSpec": {"rayStartParams", "template"},
}  # fmt: skip
FIELDS_OF_WORKERS = {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def _rendered(job: str) -> dict[str, dict]:
    """What kustomize makes of a job's folder, by kind; ConfigMaps by the name that they begin with."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    command = ["kubectl", "kustomize", str(FOLDER / job)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {
        item["kind"] if item["kind"] == "RayJob" else item["metadata"]["name"].partition(f"-{job}-")[0]: item
        for item in yaml.safe_load_all(text)
    }


def _pods(spec: dict) -> list[dict]:
    cluster = spec["rayClusterSpec"]
    return [group["template"]["spec"] for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]]


def _at(item: dict, path: str) -> dict:
    for key in filter(None, path.split(".")):
        item = item[key]
    return item


def test_every_job_has_a_folder_and_every_folder_a_job():
    assert {path.parent.name for path in FOLDER.glob("*/kustomization.yaml")} == {*JOBS, "base"}


@pytest.mark.parametrize("job", JOBS)
def test_the_entrypoint_is_the_job_for_our_own_parser(job):
    patches = yaml.safe_load((FOLDER / job / "kustomization.yaml").read_text())["patches"]
    ((patch,),) = (yaml.safe_load(patch["patch"]) for patch in patches)
    assert (patch["op"], patch["path"]) == ("replace", "/spec/entrypoint")
    python, flag, module, *arguments = patch["value"].split()
    assert (python, flag, module) == ("python", "-m", "stl_ray.cli")
    options = parser().parse_args(arguments)
    assert (options.job, options.config, options.overrides) == (job, CONFIG, [])


@pytest.mark.parametrize("job", JOBS)
def test_it_renders_to_a_rayjob_of_known_fields_whose_references_hold(job):
    rendered = _rendered(job)
    item = rendered["RayJob"]
    assert (item["apiVersion"], item["metadata"]["name"]) == ("ray.io/v1", f"stl-ray-{job}")
    for path, fields in FIELDS.items():
        assert _at(item, path).keys() == fields, path
    spec = item["spec"]
    assert all(group.keys() == FIELDS_OF_WORKERS for group in spec["rayClusterSpec"]["workerGroupSpecs"])
    maps = {name: rendered[name]["metadata"]["name"] for name in ("stl-ray-experiment", "stl-ray-environment")}
    head, *_ = _pods(spec)
    assert head["volumes"] == [{"name": "experiment", "configMap": {"name": maps["stl-ray-experiment"]}}]
    for pod in _pods(spec):
        (container,) = pod["containers"]
        assert container["envFrom"] == [{"configMapRef": {"name": maps["stl-ray-environment"]}}]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_configuration_that_every_head_mounts_is_one():
    (base,) = yaml.safe_load_all((FOLDER / "base" / "rayjob.yaml").read_text())
    (container,) = _pods(base["spec"])[0]["containers"]
    (mount,) = container["volumeMounts"]
    assert f"{mount['mountPath']}/experiment.yaml" == CONFIG
    experiment = load_experiment(str(FOLDER / "base" / "experiment.yaml"))
    assert experiment.root.startswith("s3://") and experiment.ray.autoscaling


def test_it_uses_the_pinned_ray_tokens_and_what_makes_a_resume_and_an_end():
    (base,) = yaml.safe_load_all((FOLDER / "base" / "rayjob.yaml").read_text())
    spec, cluster = base["spec"], base["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == version("ray")
    assert f"FROM rayproject/ray:{version('ray')}-" in (FOLDER.parent / "Dockerfile").read_text()
    assert {container["image"] for pod in _pods(spec) for container in pod["containers"]} == {
        f"REGISTRY/stl-ray:{version('stl-ray')}"
    }
    assert cluster["authOptions"] == {"mode": "token"}
    assert spec["shutdownAfterJobFinishes"] and spec["backoffLimit"] > 0
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"

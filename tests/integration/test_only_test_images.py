"""A user's own classifier on a dozen photographs: test images alone, JPEG alone, four commands."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image
from skimage import data

NET = """
import torch
from torch import nn

class Colours(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, images):
        return self.linear(images.mean((2, 3)))

def make():
    return Colours()
"""

SMALL = [
    "attack.sets.1.options={steps: 2}", "evaluate.gallery=2", "evaluate.tiers.images=4", "ray.actors=1",
    "evaluate.tiers.attacks=[{name: bpda, tier: T3, attack: pgd, options: {steps: 2}}]",
]  # fmt: skip


@pytest.fixture
def photographs(tmp_path):
    """Twelve JPEG files of 40 x 40 pixels, in a folder for each of two classes."""
    folder = tmp_path / "photographs"
    for name, image in (("cat", data.chelsea()), ("cup", data.coffee())):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            window = image[10 * number : 10 * number + 200, 20 * number : 20 * number + 200]
            Image.fromarray(window).resize((40, 40)).save(folder / name / f"{number}.jpg")
    return folder


ONE_RAY = """
import json, sys
from stl_ray.cli import main
from stl_ray.config import RayConfig
from stl_ray.runtime.session import ray_session

with ray_session(RayConfig(actors=1)):
    for arguments in json.loads(sys.argv[1]):
        print("exit code", main(arguments))
"""


@pytest.mark.ray
def test_four_commands_from_a_folder_of_photographs_to_a_report(photographs, alone, tmp_path):
    (tmp_path / "colours.py").write_text(NET)
    config, root = str(tmp_path / "mine.yaml"), tmp_path / "root"
    flags = ["--classifier", "colours:make", "--images", str(photographs), "--output", config]
    jobs = ("ingest", "attack", "evaluate", "report")
    commands = [["init", "my-classifier", *flags], *([job, config, f"root={root}", *SMALL] for job in jobs)]
    commands += [["train", config, f"root={root}"], ["attack", config, f"root={root}", "classifiers=[]"]]
    command = [sys.executable, "-c", ONE_RAY, json.dumps(commands)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "RAY_TMPDIR": str(alone.folder)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    codes = [line.rpartition(" ")[2] for line in result.stdout.splitlines() if line.startswith("exit code")]
    assert codes == ["0"] * 6 + ["2"], result.stdout + result.stderr
    scores = json.loads((root / "evaluate" / "mine" / "scores.json").read_text())
    assert scores["images"] == 12
    cells = {(cell["defense"], cell["attack"]) for cell in scores["cells"]}
    assert cells == {(defense, attack) for defense in ("none", "jpeg") for attack in ("clean", "fgsm-4", "pgd-4")}
    assert (root / "report" / "report.html").is_file()
    assert {path.name for path in root.iterdir()}.isdisjoint({"spaces", "fit", "project", "train"})
    assert [path.name for path in (root / "ingest").iterdir()] == ["test"]
    assert "train: no classifier is to be trained: all are used as they are" in result.stdout
    assert "classifiers: `attack` needs a classifier, and none is listed; add\n    classifiers:\n" in result.stderr

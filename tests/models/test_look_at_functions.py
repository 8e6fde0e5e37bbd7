"""What a user's own `module:function` may answer, and what it is told on four images before any work."""

import re
import sys

import pytest
import torch

from stl_ray.errors import GradientError, StlRayError, TensorError
from stl_ray.models import build_classifier, look

NAMES = ["cat", "dog", "frog"]
HEAD = """
import torch
import torch.nn.functional as F

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 3)

    def features(self, images):
        return F.relu(self.norm(self.conv(images))).mean((2, 3))

    def forward(self, images):
        return self.head(self.features(images))
"""

# What the class has beside the above, and what is said of it: nothing of these.
SOUND = {
    "as it is": "",
    "its own eval mode": "def __init__(self):\n        super().__init__()\n        self.eval()",
    "dropout": "def forward(self, images): return self.head(F.dropout(self.features(images), training=self.training))",
    "float64": "def __init__(self):\n        super().__init__()\n        self.double()",
    "in place": "def forward(self, images): return self.head(self.features(images.mul_(2).sub_(1)))",
    "object": "def forward(self, images): return {'loss': None, 'logits': self.head(self.features(images))}",
}

REFUSED = {
    "another size": (
        "def forward(self, images): return super().forward(images.reshape(-1, 3, 32, 32)[:, :, :3, :2])",
        r"fails on \(8, 3, 16, 16\) images \(RuntimeError",
    ),
    "a patch grid": (
        "def forward(self, images):\n        assert images.shape[-1] == 224, 'expects 224 pixels'\n",
        r"fails on .*AssertionError: expects 224 pixels",
    ),
    "channels last": (
        "def forward(self, images): return super().forward(images.permute(0, 3, 1, 2))",
        r"fails on \(8, 3, 16, 16\) images",
    ),
    "two images": ("def forward(self, images, mask): pass", r"fails on .*TypeError.*missing 1 required"),
    "tuple": ("def forward(self, images): return super().forward(images), None", "got tuple of"),
    "list": ("def forward(self, images): return [super(Net, self).forward(images)]", "got list of"),
    "dict": ("def forward(self, images): return {'out': super(Net, self).forward(images)}", "got dict with out"),
    "nothing": ("def forward(self, images): super().forward(images)", "got NoneType"),
    "classes": ("def forward(self, images): return super().forward(images)[:, :2]", r"\(8, 3\).* got \(8, 2\)"),
    "more classes": ("def forward(self, images): return super().forward(images).repeat(1, 5)", r"got \(8, 15\)"),
    "one axis more": ("def forward(self, images): return super().forward(images)[..., None]", r"got \(8, 3, 1\)"),
    "features": ("def forward(self, images): return self.features(images)", r"got \(8, 8\)"),
    "decisions": ("def forward(self, images): return super().forward(images).argmax(1)", r"got \(8\) int64"),
    "an array": ("def forward(self, images): return super().forward(images).detach().numpy()", "got ndarray"),
    "probabilities": ("def forward(self, images): return super().forward(images).softmax(1)", "are probabilities"),
    "nan": ("def forward(self, images): return super().forward(images) * float('nan')", "logits are not finite"),
    "infinite": ("def forward(self, images): return super().forward(images) / 0", "logits are not finite"),
    "batch statistics": (
        "def __init__(self):\n        super().__init__()\n        self.norm = torch.nn.BatchNorm2d(8, track_running_stats=False)",
        "with the other images of the batch",
    ),
    "always training": (
        "def train(self, mode=True): return super().train(True)",
        r"own_net:Net: its backbone stays in training mode after eval\(\)",
    ),
    "a layer always training": (
        "def train(self, mode=True):\n        super().train(mode)\n        self.norm.train()\n        return self",
        r"own_net:Net: its norm stays in training mode after eval\(\)",
    ),
    "dropout always": (
        "def forward(self, images): return self.head(F.dropout(self.features(images)))",
        r"from call to call \(dropout, random draws\?\)",
    ),
    "float64 inside": (
        "def forward(self, images): return super().forward(images.double())",
        r"fails on .*RuntimeError",
    ),
    "two types": (
        "def __init__(self):\n        super().__init__()\n        self.conv.bfloat16()",
        r"fails on .*RuntimeError",
    ),
    "no graph": ("def forward(self, images):\n        with torch.no_grad(): return super().forward(images)", "cut off"),
    "inference": ("@torch.inference_mode()\n    def forward(self, images): return super().forward(images)", "cut off"),
    "rounds": ("def forward(self, images): return super().forward((images * 255).round())", "zero for every image"),
    "constant": ("def forward(self, images): return 0 * super().forward(images)", "zero for every image"),
}


@pytest.fixture
def classifier(tmp_path, monkeypatch):
    def built(body: str):
        for name, text in (
            ("own_head", HEAD),
            ("own_net", f"from own_head import *\nclass Net(Net):\n    {body or 'pass'}"),
        ):
            (tmp_path / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(tmp_path)
        return build_classifier("own_net:Net", NAMES, seed=0).eval()

    return built


@pytest.fixture(scope="module")
def images(natural_images) -> torch.Tensor:
    return natural_images[::6, :, :16, :16].contiguous()


@pytest.mark.parametrize("case", SOUND)
def test_certificate_a_sound_network_gets_no_remark(case, classifier, images):
    before = images.clone()
    assert look(classifier(SOUND[case]), images, 3, item="own") == []
    assert torch.equal(images, before)


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_a_network_that_gives_wrong_figures(case, classifier, images):
    body, expected = REFUSED[case]
    with pytest.raises(StlRayError) as caught:
        look(classifier(body), images, 3, item="own")
    assert isinstance(caught.value, TensorError | GradientError) or "training" in case
    assert re.search(expected, str(caught.value)) and "own" in str(caught.value)

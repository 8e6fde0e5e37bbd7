import io

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from stl_ray.images import from_uint8
from stl_ray.models import build_classifier, load_weights, predict
from stl_ray.models.cifar_resnet import CifarResNet

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.mark.parametrize(("blocks", "depth", "parameters"), [(3, 20, 0.27e6), (9, 56, 0.85e6)])
def test_agrees_with_the_paper_s_depth_and_size(blocks, depth, parameters):
    # He et al. 2016, table 6: 0.27 M and 0.85 M parameters, counted to two digits.
    network = CifarResNet(blocks, 10)
    weighted = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == depth
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(parameters, rel=0.02)


def test_identity_option_a_shortcut_where_the_residual_is_zero():
    block = CifarResNet(1, 10).layer2[0].eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    y = block(x)
    assert y.shape == (2, 32, 4, 4)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any() and not y[:, 24:].any()


@pytest.fixture(scope="module")
def cifar10_test(shared_data):
    table = pq.read_table(shared_data / "cifar10" / "test-00000-of-00001.parquet").slice(0, 500)
    images = [pil_to_tensor(Image.open(io.BytesIO(row["bytes"]))) for row in table["image"].to_pylist()]
    return torch.stack(images), torch.tensor(table["label"].to_pylist())


@pytest.mark.parametrize(("name", "known"), [("resnet20", 0.9173), ("resnet56", 0.9339)])
def test_agrees_with_the_known_accuracy_of_published_weights(name, known, shared_data, cifar10_test):
    classifier = build_classifier(f"cifar_{name}", CIFAR10, seed=0).eval()
    load_weights(classifier, str(shared_data / "weights" / f"cifar10_{name}.safetensors"))
    images, labels = cifar10_test
    right = predict(classifier, from_uint8(images)) == labels
    # Known on 10,000 images; three standard errors of a share over 500 are 0.037.
    assert right.float().mean().item() == pytest.approx(known, abs=0.037)

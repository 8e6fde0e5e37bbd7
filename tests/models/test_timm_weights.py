"""timm's published weights: from the cache of the Hugging Face hub, without a network."""

import pytest
import torch
from safetensors.torch import save_file

from stl_ray.config.classifiers import IMAGENET
from stl_ray.errors import ArtifactError, ConfigError
from stl_ray.models import build_classifier, check_weights, classes_of, load_weights, weights_digest
from stl_ray.models.imagenet import WNIDS

timm = pytest.importorskip("timm", reason="an optional extra")
NAME, FULL = "timm:test_resnet", "timm:test_resnet.r160_in1k"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache, empty, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.parametrize("architecture", [NAME, FULL])
@pytest.mark.parametrize("names", [classes_of(IMAGENET, []), WNIDS], ids=["names", "wnids"])
def test_roundtrip_pretrained_is_what_timm_has_in_its_cache(architecture, names, cache, natural_images):
    torch.manual_seed(3)
    theirs = timm.create_model("test_resnet").eval()
    folder = cache / "models--timm--test_resnet.r160_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40)
    (folder / "snapshots" / ("a" * 40)).mkdir(parents=True)
    save_file(theirs.state_dict(), folder / "snapshots" / ("a" * 40) / "model.safetensors")
    check_weights(architecture, "pretrained")
    ours = build_classifier(architecture, names, seed=0).eval()
    load_weights(ours, "pretrained")
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(natural_images), theirs((natural_images - 0.5) / 0.5))


def test_identity_names_the_tag_that_a_name_stands_for():
    assert weights_digest(NAME, "pretrained") == weights_digest(FULL, "pretrained") == FULL


def test_refuses_in_one_sentence_what_is_neither_in_the_cache_nor_in_reach(cache):
    classifier = build_classifier(NAME, classes_of(IMAGENET, []), seed=0)
    with pytest.raises(
        ArtifactError, match=r"^timm:test_resnet: timm cannot download its weights \(.*HF_HOME"
    ) as caught:
        load_weights(classifier, "pretrained")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [["cat", "dog"], WNIDS[::-1]])
def test_refuses_other_classes_before_any_download(names, cache):
    with pytest.raises(ArtifactError, match=f"{FULL}: the weights know (other|the same) classes"):
        load_weights(build_classifier(NAME, names, seed=0), "pretrained")


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("timm:coatnet_0_224", "timm publishes no weights for it"),
        ("torchvision:resnet18", "timm:NAME alone; expected a file, .* ResNet50_Weights"),
        ("small_cnn", "timm:NAME alone"),
        ("timm:test_resnte", "'timm:test_resnet'"),
    ],
)
def test_refuses_pretrained_where_there_is_none(architecture, expected):
    for check in (check_weights, weights_digest):
        with pytest.raises(ConfigError, match=f"{architecture}: .*{expected}"):
            check(architecture, "pretrained")

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models as torchvision_models

from stl_ray.errors import ArtifactError, ConfigError, StorageError
from stl_ray.models import build_classifier, check_weights, load_weights, save_classifier, weights_digest

NAMES = ["cat", "dog"]
THOUSAND = [f"class {i}" for i in range(1000)]


@pytest.fixture
def classifier(natural_images):
    classifier = build_classifier("small_cnn", NAMES, seed=1, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    classifier(natural_images)  # moves the running statistics away from their start
    return classifier.eval()


@pytest.fixture
def other():
    return build_classifier("small_cnn", NAMES, seed=2, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)).eval()


@pytest.mark.parametrize("name", ["resnet50", pytest.param("vgg16_bn", marks=pytest.mark.faults)])
def test_roundtrip_torchvision_s_state_dict(name, tmp_path):
    """Its keys and shapes are ours, its weights give its logits here, and ours load there."""
    theirs = torchvision_models.get_model(name, weights=None, num_classes=1000).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = build_classifier(f"torchvision:{name}", THOUSAND, seed=5, mean=(0, 0, 0), std=(1, 1, 1)).eval()
    load_weights(ours, str(tmp_path / "weights.pth"))
    images = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
    shapes = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.backbone.state_dict().items()} == shapes
    theirs.load_state_dict(build_classifier(f"torchvision:{name}", THOUSAND, seed=6).backbone.state_dict())


@pytest.mark.parametrize("uri", ["file://{}/model.safetensors", "{}", "{}/weights.pth", "{}/weights.safetensors"])
def test_agrees_whatever_the_weights_come_in(uri, classifier, other, natural_images, tmp_path):
    save_classifier(str(tmp_path), classifier, {})
    state = {k: v for k, v in classifier.backbone.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "weights.pth")  # without counters, as many published files are
    save_file(state, tmp_path / "weights.safetensors")
    uri = uri.format(tmp_path)
    check_weights("small_cnn", uri)
    load_weights(other, uri)
    assert torch.equal(other.logits(natural_images), classifier.logits(natural_images))
    assert len(weights_digest("small_cnn", uri)) == 64


def test_refuses_weights_of_another_shape_and_changes_nothing(classifier, natural_images, tmp_path):
    before = classifier.logits(natural_images)
    state = build_classifier("small_cnn", ["a", "b", "c"], seed=0).backbone.state_dict()
    del state["0.weight"]
    save_file({**state, "extra": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(
        ArtifactError, match=r"with 2 classes: 0\.weight is missing .*; extra is unknown; .*\(3, 96\), not"
    ):
        load_weights(classifier, str(tmp_path / "weights.safetensors"))
    assert torch.equal(classifier.logits(natural_images), before)


def test_refuses_weights_that_mean_something_else(classifier, tmp_path):
    """The same shapes, but classes in another order, or images normalised otherwise."""
    save_classifier(str(tmp_path), classifier, {})
    turned = build_classifier("small_cnn", NAMES[::-1], seed=2, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    with pytest.raises(ArtifactError, match="in another order; expected class 0 to be dog; got cat"):
        load_weights(turned, str(tmp_path))
    with pytest.raises(ArtifactError, match=r"another normalisation; expected mean 0\.485, .*; got mean 0\.4, 0\.5"):
        load_weights(build_classifier("small_cnn", NAMES, seed=2), str(tmp_path))
    load_weights(
        build_classifier("small_cnn", ["x", "y"], seed=2, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)), str(tmp_path)
    )
    categories = torchvision_models.EfficientNet_V2_L_Weights.IMAGENET1K_V1.meta["categories"]
    half = build_classifier("torchvision:efficientnet_v2_l", categories, seed=0)
    with pytest.raises(ArtifactError, match=r"EfficientNet_V2_L_Weights.*normalisation.*got mean 0\.5"):
        load_weights(half, "EfficientNet_V2_L_Weights.IMAGENET1K_V1")


def test_refuses_files_that_are_no_state_dict(classifier, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(ArtifactError, match="not a safetensors file"):
        load_weights(classifier, str(tmp_path / "weights.safetensors"))
    (tmp_path / "weights.pth").write_bytes(b"not a tensor")
    with pytest.raises(ArtifactError, match="not a file of weights alone"):
        load_weights(classifier, str(tmp_path / "weights.pth"))
    torch.save({"epoch": 3, "model": {}}, tmp_path / "weights.pth")
    with pytest.raises(ArtifactError, match="not a state dict; expected a tensor by name; got epoch, model"):
        load_weights(classifier, str(tmp_path / "weights.pth"))


def test_refuses_weights_that_are_not_there(classifier, tmp_path):
    for name in ("missing.safetensors", "folder"):
        with pytest.raises(StorageError, match="no such file"):
            load_weights(classifier, str(tmp_path / name))
        with pytest.raises(StorageError):
            check_weights("small_cnn", str(tmp_path / name))
    with pytest.raises(ConfigError, match="unknown weights of torchvision"):
        check_weights("torchvision:resnet50", "ResNet50_Weights.IMAGENET9")
    check_weights("torchvision:resnet50", "ResNet50_Weights.IMAGENET1K_V2")


def test_certificate_published_weights_come_from_torchvision_s_cache(tmp_path, monkeypatch):
    """A file where torchvision would download it to: no network is asked for."""
    theirs = torchvision_models.resnet18(num_classes=1000)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    weights = torchvision_models.ResNet18_Weights.IMAGENET1K_V1
    name = weights.url.rsplit("/", 1)[1]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "weights.pth").rename(tmp_path / "hub" / "checkpoints" / name)
    ours = build_classifier("torchvision:resnet18", list(map(str, range(1000))), seed=3)
    load_weights(ours, "ResNet18_Weights.IMAGENET1K_V1")
    assert torch.equal(ours.backbone.conv1.weight, theirs.conv1.weight)


@pytest.mark.parametrize("name", ["w.pth", "w.PTH", "w.bin", "w.ckpt", "w.pth.tar", "w.SafeTensors", "w"])
def test_roundtrip_a_checkpoint_by_any_name_and_the_prefix_is_said(name, classifier, other, natural_images, tmp_path):
    state = {f"module.{key}": tensor for key, tensor in classifier.backbone.state_dict().items()}
    if name == "w.SafeTensors":
        save_file(state, tmp_path / name)
    else:
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / name)
    check_weights("small_cnn", str(tmp_path / name))
    with pytest.warns(UserWarning, match=r"the weights are those under '(state_dict/)?module\.'"):
        load_weights(other, str(tmp_path / name))
    assert torch.equal(other.logits(natural_images), classifier.logits(natural_images))


def test_refuses_published_weights_on_other_classes_before_any_download():
    for names in (THOUSAND, sorted(map(str, range(1000)))):
        with pytest.raises(ArtifactError, match=r"ResNet18_Weights\.IMAGENET1K_V1: the weights"):
            load_weights(build_classifier("torchvision:resnet18", names, seed=3), "ResNet18_Weights.IMAGENET1K_V1")

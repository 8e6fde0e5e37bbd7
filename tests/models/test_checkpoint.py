import json

import pytest
import torch
from safetensors.torch import save_file

from stl_ray import models
from stl_ray.errors import ArtifactError, StorageError
from stl_ray.models import build_classifier, load_weights, save_classifier
from stl_ray.store import load_artifact, save_artifact

NAMES = ["cat", "dog"]


@pytest.fixture
def classifier(natural_images):
    classifier = build_classifier("small_cnn", NAMES, seed=1, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    classifier(natural_images)  # moves the running statistics away from their start
    return classifier.eval()


def test_roundtrip_same_logits_names_and_record(classifier, natural_images, tmp_path):
    digest = save_classifier(str(tmp_path), classifier, {"trained_on": "abc", "metrics": {"accuracy": 0.5}})
    loaded = models.load(str(tmp_path))
    assert not loaded.training
    assert loaded.class_names == ("cat", "dog")
    assert torch.equal(loaded.logits(natural_images), classifier.logits(natural_images))
    artifact = load_artifact(str(tmp_path), "model", 1)
    assert artifact.digest == digest
    assert artifact.meta["trained_on"] == "abc" and artifact.meta["architecture"] == "small_cnn"


def test_roundtrip_the_tensors_are_a_plain_state_dict(classifier, natural_images, tmp_path):
    save_classifier(str(tmp_path), classifier, {})
    other = build_classifier("small_cnn", NAMES, seed=2, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)).eval()
    load_weights(other, f"file://{tmp_path}/model.safetensors")
    assert torch.equal(other.logits(natural_images), classifier.logits(natural_images))


def test_roundtrip_weights_without_batch_norm_s_counters(classifier, natural_images, tmp_path):
    state = {k: v for k, v in classifier.backbone.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "weights.safetensors")
    other = build_classifier("small_cnn", NAMES, seed=2, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)).eval()
    load_weights(other, str(tmp_path / "weights.safetensors"))
    assert torch.equal(other.logits(natural_images), classifier.logits(natural_images))


def test_refuses_weights_of_another_shape_and_changes_nothing(classifier, natural_images, tmp_path):
    before = classifier.logits(natural_images)
    state = build_classifier("small_cnn", ["a", "b", "c"], seed=0).backbone.state_dict()
    del state["0.weight"]
    save_file({**state, "extra": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(ArtifactError, match=r"0\.weight is missing; extra is unknown; .*\(3, 96\), not \(2, 96\)"):
        load_weights(classifier, str(tmp_path / "weights.safetensors"))
    assert torch.equal(classifier.logits(natural_images), before)


def test_refuses_what_is_not_safetensors(classifier, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(ArtifactError, match="not a safetensors file"):
        load_weights(classifier, str(tmp_path / "weights.safetensors"))
    with pytest.raises(StorageError, match="no such file"):
        load_weights(classifier, str(tmp_path / "missing.safetensors"))


def test_refuses_a_missing_altered_or_unknown_classifier(classifier, tmp_path):
    with pytest.raises(ArtifactError):
        models.load(str(tmp_path / "nowhere"))
    save_classifier(str(tmp_path), classifier, {})
    record = json.loads((tmp_path / "model.json").read_text())
    record["meta"]["class_names"] = ["dog", "cat"]
    (tmp_path / "model.json").write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match="altered"):
        models.load(str(tmp_path))


@pytest.mark.parametrize("architecture", ["smal_cnn", None])
def test_refuses_a_record_that_rebuilds_nothing(architecture, tmp_path):
    meta = {"class_names": NAMES, "mean": [0.0] * 3, "std": [1.0] * 3}
    save_artifact(str(tmp_path), "model", 1, {}, meta | ({"architecture": architecture} if architecture else {}))
    with pytest.raises(ArtifactError, match="not a classifier of this version"):
        models.load(str(tmp_path))

import json
import warnings
from types import SimpleNamespace

import pytest
import torch

from stl_ray import models
from stl_ray.errors import ArtifactError
from stl_ray.models import build_classifier, save_classifier
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
    artifact = load_artifact(str(tmp_path), "model", 2)
    assert artifact.digest == digest
    assert artifact.meta["trained_on"] == "abc" and artifact.meta["architecture"] == "small_cnn"
    assert artifact.meta["preprocessing"]["range"] == [0.0, 1.0]
    assert artifact.meta["preprocessing"]["mean"] == pytest.approx([0.4, 0.5, 0.6])


@pytest.mark.parametrize(
    ("defense", "said"),
    [
        ({"defense": "stl", "space": "aaa"}, "the output of space aaa"),
        ({"defense": "jpeg", "quality": 75}, "the output of jpeg"),
        (None, "clean images"),
    ],
)
def test_certificate_another_space_is_warned_of_by_both_digests(defense, said, classifier, tmp_path):
    save_classifier(str(tmp_path), classifier, {"defense": defense})
    with pytest.warns(UserWarning, match=f"trained on {said}.* for space bbb"):
        models.load(str(tmp_path), space=SimpleNamespace(digest="bbb"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        models.load(str(tmp_path))
        if defense and "space" in defense:
            models.load(str(tmp_path), space=SimpleNamespace(digest="aaa"))


def test_refuses_a_missing_altered_or_unknown_classifier(classifier, tmp_path):
    with pytest.raises(ArtifactError):
        models.load(str(tmp_path / "nowhere"))
    save_classifier(str(tmp_path), classifier, {})
    record = json.loads((tmp_path / "model.json").read_text())
    record["meta"]["class_names"] = ["dog", "cat"]
    (tmp_path / "model.json").write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match="altered"):
        models.load(str(tmp_path))


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("smal_cnn", "cannot be built .*'small_cnn'"),
        ("resnet50", "'torchvision:resnet50'"),
        (None, "not a classifier of this version"),
    ],
)
def test_refuses_a_record_that_rebuilds_nothing(architecture, said, tmp_path):
    meta = {"class_names": NAMES, "preprocessing": {"mean": [0.0] * 3, "std": [1.0] * 3}}
    save_artifact(str(tmp_path), "model", 2, {}, meta | ({"architecture": architecture} if architecture else {}))
    with pytest.raises(ArtifactError, match=said):
        models.load(str(tmp_path))

"""Classifiers of a user's own package: what they are, kept and loaded again, and what each bad one is told."""

import sys

import pytest
import torch
from torch import nn

from stl_ray import models
from stl_ray.errors import ArtifactError, ConfigError
from stl_ray.models import (
    Classifier,
    build_classifier,
    check_classifier,
    classifier_identity,
    load_weights,
    save_classifier,
    source_digest,
)

NAMES = ["cat", "dog", "frog"]

NET = """
import torch
from own.layers import head

def make():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), head())
"""
LAYERS = """
import torch

def head():
    return torch.nn.Linear(4, 3)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package `own` into a folder and puts the folder first; again and again, as the next process would find it."""

    def written(folder: str = "here", layers: str = LAYERS, net: str = NET):
        for name in [name for name in sys.modules if name.partition(".")[0] in ("own", "alone")]:
            del sys.modules[name]
        own = tmp_path / folder / "own"
        own.mkdir(parents=True, exist_ok=True)
        for name, text in (("__init__", ""), ("layers", layers), ("net", net)):
            (own / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path / folder)
        return own

    yield written
    for name in [name for name in sys.modules if name.partition(".")[0] in ("own", "alone")]:
        del sys.modules[name]


def identity(reference="own.net:make", change=None):
    classifier = build_classifier(reference, NAMES, seed=0)
    if change is not None:
        change(classifier)
    return classifier_identity(classifier)


def test_identity_a_user_s_network_sees_images_as_they_are(package, natural_images):
    package()
    check_classifier("own.net:make")
    classifier = build_classifier("own.net:make", NAMES, seed=0).eval()
    assert classifier.architecture == "own.net:make" and not classifier.channels_last
    with torch.no_grad():
        assert torch.equal(classifier.logits(natural_images), classifier.backbone(natural_images))


def test_invariant_its_random_weights_come_from_the_seed(package):
    package()
    assert identity() == identity()
    assert identity() != classifier_identity(build_classifier("own.net:make", NAMES, seed=1))


def test_certificate_its_identity_is_of_source_weights_and_classes_and_not_of_the_place(package):
    package()
    first = identity()
    assert first.keys() == {"architecture", "weights", "mean", "std", "classes", "source"}
    package("elsewhere")
    assert identity() == first
    package("elsewhere", layers=LAYERS + "# a line more, in another file than the function's\n")
    assert {key for key, value in identity().items() if value != first[key]} == {"source"}
    package("elsewhere")
    with torch.no_grad():
        changed = identity(change=lambda classifier: classifier.backbone[0].bias[1].add_(1e-3))
    assert {key for key, value in changed.items() if value != first[key]} == {"weights"}
    renamed = classifier_identity(build_classifier("own.net:make", NAMES[::-1], seed=0))
    assert {key for key, value in renamed.items() if value != first[key]} == {"classes"}


def test_certificate_a_module_alone_is_its_file(package):
    folder = package().parent
    source = NET.replace("from own.layers import head", "head = lambda: torch.nn.Linear(4, 3)")
    (folder / "alone.py").write_text(source)
    first = identity("alone:make")
    (folder / "beside.py").write_text("of no concern")
    assert identity("alone:make") == first
    (folder / "alone.py").write_text(source + "\n")
    del sys.modules["alone"]
    assert identity("alone:make")["source"] != first["source"]


def test_certificate_other_classifiers_are_architecture_and_weights():
    identities = [
        classifier_identity(build_classifier(name, NAMES, seed=seed))
        for name, seed in [("small_cnn", 0), ("small_cnn", 1), ("cifar_resnet20", 0)]
    ]
    assert len({identity["weights"] for identity in identities}) == 3
    assert "source" not in identities[0]
    digests = set()
    for kind in (torch.float16, torch.bfloat16):  # zeros are the same bits in both
        zeros = nn.Linear(3, 3).to(kind).requires_grad_(requires_grad=False)
        zeros.weight.zero_()
        zeros.bias.zero_()
        digests.add(classifier_identity(Classifier(zeros, architecture="net", class_names=NAMES))["weights"])
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("architecture", {"architecture": "other"}),
        ("mean", {"mean": (0.5, 0.5, 0.25)}),
        ("std", {"std": (0.5, 0.5, 0.25)}),
        ("classes", {"class_names": ["ca", "tdog", "frog"]}),  # the same letters
    ],
)
def test_certificate_whatever_can_change_an_answer_is_in_its_identity(part, change):
    given = {"architecture": "net", "class_names": NAMES, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    backbone = nn.Linear(3, 3)
    one, other = (classifier_identity(Classifier(backbone, **keys)) for keys in (given, {**given, **change}))
    assert [key for key in one if one[key] != other[key]] == [part]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_roundtrip_kept_and_loaded_by_its_function(kind, package, natural_images, tmp_path):
    package()
    classifier = build_classifier("own.net:make", NAMES, seed=3).to(kind).eval()
    save_classifier(str(tmp_path / "kept"), classifier, {})
    loaded = models.load(str(tmp_path / "kept"))
    assert (loaded.architecture, loaded.class_names) == ("own.net:make", tuple(NAMES))
    assert loaded.mean.flatten().tolist() == [0, 0, 0] and not loaded.channels_last
    assert torch.equal(loaded.to(kind).logits(natural_images), classifier.logits(natural_images))


def test_refuses_kept_weights_without_their_source(package, tmp_path):
    package()
    save_classifier(str(tmp_path / "kept"), build_classifier("own.net:make", NAMES, seed=3), {})
    before = source_digest("own.net:make")
    package(layers=LAYERS.replace("Linear(4, 3)", "Linear(4, 3).requires_grad_()"))
    with pytest.raises(
        ArtifactError, match=f"source of own.net:make is another .*{before}.*{source_digest('own.net:make')}"
    ):
        models.load(str(tmp_path / "kept"))
    package(net="import nowhere")
    with pytest.raises(ArtifactError, match=r"cannot be built \(own.net:make: own.net cannot be imported"):
        models.load(str(tmp_path / "kept"))
    package(net="")
    with pytest.raises(ArtifactError, match=r"source of own.net:make is another"):
        models.load(str(tmp_path / "kept"))


def test_roundtrip_weights_may_be_given_on_top(package, natural_images, tmp_path):
    package()
    other = build_classifier("own.net:make", NAMES, seed=5).eval()
    torch.save({"state_dict": other.backbone.state_dict()}, tmp_path / "weights.pth")
    classifier = build_classifier("own.net:make", NAMES, seed=0).eval()
    with pytest.warns(UserWarning, match="under 'state_dict/'"):
        load_weights(classifier, str(tmp_path / "weights.pth"))
    assert torch.equal(classifier.logits(natural_images), other.logits(natural_images))


# The reference, the text of the module `own.net`, and what is said.
BAD = {
    "no module": ("nowhere.net:make", "", r"nowhere.net cannot be imported \(ModuleNotFoundError: No module named"),
    "a path": ("own/net.py:make", "", r"cannot be imported .* of a module in the command's folder or on Python's path"),
    "a missing import": ("own.net:make", "import nowhere", r"cannot be imported \(ModuleNotFoundError.*'nowhere'"),
    "a slip of syntax": ("own.net:make", "def make(:", r"cannot be imported \(SyntaxError"),
    "raises": ("own.net:make", "raise ValueError('no\\nweights')", r"cannot be imported \(ValueError: no\)"),
    "a script": ("own.net:make", "import sys; sys.exit(2)", r"cannot be imported \(SystemExit: 2\)"),
    "no function": ("own.net:mkae", "def make(): pass", r"no such function; expected 'make'\?"),
    "no callable": ("own.net:make", "make = 3", "no such function"),
    "a network": ("own.net:make", "import torch; make = torch.nn.ReLU()", "is a network, not a function"),
    "arguments": ("own.net:make", "def make(classes): pass", r"without arguments \(TypeError: make\(\) missing 1"),
    "fails": ("own.net:make", "def make(): open('/nowhere')", r"\(FileNotFoundError: .*'/nowhere'"),
    "exits": ("own.net:make", "def make(): raise SystemExit('no')", r"\(SystemExit: no\)"),
    "no network": ("own.net:make", "def make(): return {}", "returns no network; expected torch.nn.Module; got dict"),
    "a class": ("own.net:make", "import torch\ndef make(): return torch.nn.ReLU", "returns no network; .*; got type"),
    "lazy": (
        "own.net:make",
        "import torch\ndef make(): return torch.nn.LazyLinear(3)",
        "its weight weight cannot be used; .* got none yet",
    ),
    "meta": (
        "own.net:make",
        "import torch\ndef make(): return torch.nn.Linear(3, 3, device='meta')",
        "its weight weight cannot be used; .* got none yet",
    ),
    "quantised": (
        "own.net:make",
        "import torch\ndef make(): return torch.ao.nn.quantized.dynamic.Linear(3, 3)",
        "its weight .* cannot be used; .* got (dtype|tuple|a tensor of qint8)",
    ),
    "no name": ("own.net:", "", "expected module:function"),
    "no place": (":make", "", "expected module:function"),
    "relative": (".net:make", "", "expected module:function"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore:.*(lazy|quantiz)")
def test_refuses_what_makes_no_network(case, package):
    reference, net, expected = BAD[case]
    package(net=net)
    with pytest.raises(ConfigError, match=f"^{reference}: .*{expected}"):
        build_classifier(reference, NAMES, seed=0)


def test_refuses_a_bad_module_before_any_call(package):
    package(net="raise ValueError('no')")
    with pytest.raises(ConfigError, match=r"own.net cannot be imported"):
        check_classifier("own.net:make")
    package(net="def make(): raise ValueError('not yet')")
    check_classifier("own.net:make")


def test_refuses_a_function_without_a_source_file(monkeypatch):
    monkeypatch.setattr(sys.modules["builtins"], "make", nn.Flatten, raising=False)
    with pytest.raises(ConfigError, match="builtins:make: its module has no source file"):
        classifier_identity(build_classifier("builtins:make", NAMES, seed=0))

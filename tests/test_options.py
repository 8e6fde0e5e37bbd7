"""Every name that a user gives is refused in one way: the name, the nearest that there is, and all that there are."""

import re
from typing import Annotated, Literal, get_args, get_origin

import numpy as np
import pytest
import torch
import yaml

from stl_ray.attacks import ATTACKS, make_attack
from stl_ray.cli import main
from stl_ray.config import Experiment, load_experiment
from stl_ray.config.grid import LISTS
from stl_ray.config.help import JOBS
from stl_ray.config.keys import GRID, section_in
from stl_ray.csc import Dictionary, solve_cbpdn
from stl_ray.csc.cbpdn import METHODS
from stl_ray.csc.codes import ACCURACIES
from stl_ray.csc.native import CAP, INSTRUCTION_SETS, instruction_sets
from stl_ray.defenses import make_defense, options_of
from stl_ray.defenses.registry import DEFENSES
from stl_ray.errors import ConfigError, StlRayError
from stl_ray.models import build_classifier
from stl_ray.models.registry import OURS
from stl_ray.models.weights import check_weights
from stl_ray.options import nearest
from stl_ray.pipeline.preflight import preflight
from stl_ray.space import QuasiNaturalSpace, SparseTransformationLayer

SET = {"name": "x", "attack": "fgsm", "linf": 8}
TIER = {"name": "y", "tier": "T3", "attack": "pgd"}
MINIMAL = {
    "name": "test",
    "root": "runs/test",
    "ingest": {"train": {"format": "photographs"}, "test": {"format": "photographs"}},
    "classifiers": [{"name": "vanilla", "architecture": "small_cnn"}],
    "ray": {"label_selector": {"a": "b"}, "fallback_strategy": [{"label_selector": {"a": "c"}}]},
    "attack": {"sets": [SET]},
    "train": {"adversarial": {"linf": 8}},
    "evaluate": {"tiers": {"attacks": [TIER]}},
    "defenses": [{"name": "z", "defense": "jpeg"}],
    "spaces": [{"name": "natural"}],
}


def _load(tmp_path, *overrides):
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(MINIMAL))
    return load_experiment(str(file), overrides)


def _wrong(name):
    """A name with a slip: two letters in the other order, or one too many."""
    slipped = name[:1] + name[2:3] + name[1:2] + name[3:]
    return slipped if slipped != name else f"{name}x"


def _says(message, wrong, meant, known):
    listed = ", ".join(sorted(known))
    assert f"expected {meant!r}? (one of {listed})" in message
    assert wrong in message


def _choices(model, path=""):
    """Every key that takes one of some names: its path in MINIMAL, and the names."""
    for name, field in model.model_fields.items():
        place = f"{path}{name}"
        names = _literals(field.annotation)
        if names:
            yield f"{place}.0" if get_origin(field.annotation) is tuple else place, names
        elif inner := section_in(field.annotation):
            yield from _choices(inner, f"{place}.0." if "tuple" in str(field.annotation) else f"{place}.")


def _literals(annotation):
    if get_origin(annotation) is Literal:
        return [value for value in get_args(annotation) if isinstance(value, str)]
    if get_origin(annotation) in (tuple, Annotated) or (
        get_origin(annotation) is not None and "Literal" in str(annotation)
    ):
        found = [_literals(argument) for argument in get_args(annotation) if argument is not ...]
        return next((names for names in found if names), [])
    return []


CHOICES = list(_choices(Experiment))


def test_identity_the_choices_of_all_sections_are_found():
    paths = [path for path, _ in CHOICES]
    assert len(paths) > 20
    assert {"ingest.train.format", "solver.method", "project.splits.0", "attack.sets.0.victim.gradient"} <= set(paths)
    assert {"evaluate.tiers.attacks.0.tier", "train.adversarial.method"} <= set(paths)
    assert "classifiers.0.retrain.projection" in paths


@pytest.mark.parametrize(("path", "names"), CHOICES)
def test_refuses_a_wrong_choice_of_a_key_with_the_nearest(tmp_path, path, names):
    wrong = _wrong(names[-1])
    section, _, last = path.rpartition(".")
    override = f"{section}=[{wrong}]" if last == "0" else f"{path}={wrong}"
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, override)
    assert str(caught.value).startswith(f"{path}: wrong value; ")
    _says(str(caught.value), repr(wrong), nearest(wrong, names).split("?")[0].strip("'"), names)


def _keys(model, path=""):
    yield path, [*model.model_fields, *([GRID] if path.removesuffix(".0.") in LISTS else [])]
    for name, field in model.model_fields.items():
        inner = section_in(field.annotation)
        if inner is not None:
            yield from _keys(inner, f"{path}{name}.0." if "tuple" in str(field.annotation) else f"{path}{name}.")


@pytest.mark.parametrize(("path", "keys"), _keys(Experiment))
def test_refuses_a_wrong_key_of_a_section_with_the_nearest(tmp_path, path, keys):
    wrong = f"{keys[0]}s"
    with pytest.raises(ConfigError, match="unknown key") as caught:
        _load(tmp_path, f"{path}{wrong}=1")
    _says(str(caught.value), f"{path}{wrong}: unknown key", keys[0], keys)


@pytest.mark.parametrize(
    ("key", "wrong", "meant", "kind"),
    [
        ("classifiers.0.architecture", "resnet 50 small", "resnet50_small", "classifier"),
        ("classifiers.0.architecture", "VGG16-bn-small!", "vgg16_bn_small", "classifier"),
        ("classifiers.0.architecture", "../small_cnn", "small_cnn", "classifier"),
        ("attack.sets.0.attack", "Auto Attack", "autoattack", "attack"),
        ("evaluate.tiers.attacks.0.attack", "P-G-D", "pgd", "attack"),
        ("defenses.0.defense", "JPEG", "jpeg", "defense"),
        ("defenses.0.defense", "stl (cluster)", "stl_cluster", "defense"),
        ("defenses.0.defense", "", None, "defense"),
    ],
)
def test_refuses_a_name_of_a_registry_whatever_letters_it_has(tmp_path, key, wrong, meant, kind):
    tables = {"classifier": OURS, "attack": ATTACKS, "defense": DEFENSES}
    experiment = _load(tmp_path, f"{key}={wrong!r}")
    with pytest.raises(ConfigError) as caught:
        preflight(experiment)
    assert f"unknown {kind}" in str(caught.value)
    if meant is None:
        assert f"expected one of {', '.join(sorted(tables[kind]))}" in str(caught.value)
    else:
        _says(str(caught.value), wrong, meant, tables[kind])


@pytest.mark.parametrize("key", ["name", "attack.sets.0.name", "evaluate.tiers.attacks.0.name", "defenses.0.name"])
@pytest.mark.parametrize("wrong", ["a/b", "with space", "-x", ""])
def test_refuses_a_name_that_is_no_name_in_words(tmp_path, key, wrong):
    with pytest.raises(ConfigError, match=rf"{key}: not a name; .*letters, digits.*; got '{wrong}'"):
        _load(tmp_path, f"{key}={wrong!r}")


def _layer(**arguments):
    return SparseTransformationLayer(QuasiNaturalSpace.from_dictionary(_dictionary()), **arguments)


def _dictionary(norm="joint"):
    filters = torch.zeros(1, 3, 4, 4)
    filters[0, 0, 0, 0] = 1
    return Dictionary(filters, 0.2, norm)


def _solve(**arguments):
    return solve_cbpdn(torch.zeros(1, 3, 8, 8), _dictionary(), 0.2, **arguments)


def _victim(tmp_path, key, name):
    preflight(_load(tmp_path, "defenses.0.name=shield", f"attack.sets.0.victim={{{key}: {name}}}"))


def _classifier(tmp_path, keys):
    preflight(_load(tmp_path, "defenses.0.name=shield", f"classifiers.0={{name: vanilla, {keys}}}"))


def _capped(monkeypatch, name):
    monkeypatch.setenv(CAP, name)
    instruction_sets()


WEIGHTS = ["ResNet50_Weights.IMAGENET1K_V1", "ResNet50_Weights.IMAGENET1K_V2"]

# What a user says in Python, and elsewhere than in a section: the call with a wrong name, the nearest, all (or some).
CALLS = [
    ("bpdaa", "bpda", ["bpda", "exact", "none"], lambda name, *_: _layer(gradient=name)),
    ("refrence", "reference", list(ACCURACIES), lambda name, *_: _layer(accuracy=name)),
    ("active set", "active_set", ["auto", *METHODS], lambda name, *_: _layer(method=name)),
    ("clipped", "clip", ["clip", "reference"], lambda name, *_: _layer(normalization=name)),
    ("defaults", "default", list(ACCURACIES), lambda name, *_: _solve(accuracy=name)),
    ("adm", "admm", ["auto", *METHODS], lambda name, *_: _solve(method=name)),
    ("per-channel", "per_channel", ["joint", "per_channel"], lambda name, *_: _dictionary(name)),
    ("avx-2", "avx2", list(INSTRUCTION_SETS), lambda name, patch, _: _capped(patch, name)),
    ("fgms", "fgsm", list(ATTACKS), lambda name, *_: make_attack(name, {})),
    ("stpes", "steps", ["relative_step", "steps"], lambda name, *_: make_attack("bim", {name: 3})),
    ("margn", "margin", ["cross_entropy", "dlr", "margin"], lambda name, *_: make_attack("pgd", {"loss": name})),
    ("jpg", "jpeg", list(DEFENSES), lambda name, *_: options_of(name, {})),
    ("qualty", "quality", ["quality"], lambda name, *_: options_of("jpeg", {name: 3})),
    ("stl-", "stl", list(DEFENSES), lambda name, *_: make_defense(name, {}, {})),
    ("resnet-50-small", "resnet50_small", None, lambda name, *_: build_classifier(name, ["a"], seed=0)),
    ("ResNet50_Weights.IMAGENET_V2", WEIGHTS[1], None, lambda name, *_: check_weights("small_cnn", name)),
    ("sheild", "shield", ["shield"], lambda name, _, folder: _victim(folder, "defense", name)),
    ("shild", "shield", ["shield"], lambda name, _, folder: _victim(folder, "retrained_for", name)),
    ("vanila", "vanilla", ["vanilla"], lambda name, _, folder: _victim(folder, "classifier", name)),
    ("ResNet-50 small", "resnet50_small", None, lambda name, _, folder: _classifier(folder, f"architecture: {name}")),
    (
        "sheild ",
        "shield",
        ["shield"],
        lambda name, _, folder: _classifier(folder, f"architecture: small_cnn, retrain: {{defenses: ['{name}']}}"),
    ),
    (
        "vanilla-",
        "vanilla",
        ["vanilla"],
        lambda name, _, folder: _classifier(folder, f"architecture: small_cnn, retrain: {{start: {name}}}"),
    ),
]


@pytest.mark.parametrize(("wrong", "meant", "known", "call"), CALLS, ids=[wrong for wrong, *_ in CALLS])
def test_refuses_a_wrong_name_in_python_with_the_nearest(monkeypatch, tmp_path, wrong, meant, known, call):
    with pytest.raises(StlRayError) as caught:
        call(wrong, monkeypatch, tmp_path)
    if known is None:
        assert wrong in str(caught.value)
        assert re.search(rf"expected '{re.escape(meant)}'\? \(one of .*{re.escape(meant)}", str(caught.value))
    else:
        _says(str(caught.value), wrong, meant, known)


@pytest.mark.parametrize(
    ("arguments", "meant"), [(["ingst", "x.yaml"], "ingest"), (["--nothing", "verfy"], "verify"), (["Fit"], "fit")]
)
def test_refuses_a_wrong_command_with_the_nearest(capsys, arguments, meant):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert f"unknown command; expected {meant!r}? (one of attack, " in said


def test_refuses_a_wrong_job_to_submit_with_the_nearest(capsys):
    assert main(["submit", "evalute", "x.yaml"]) == 2
    _says(capsys.readouterr().err, "evalute: unknown job", "evaluate", list(JOBS))


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("fgms", ["fgsm", "bim"], "'fgsm'? (one of bim, fgsm)"),
        ("FGSM", ["fgsm", "bim"], "'fgsm'? (one of bim, fgsm)"),
        ("zzz", ["fgsm", "bim"], "one of bim, fgsm"),
        ("zzz", [], "none"),
        (np.float32(3), ["bim"], "one of bim"),
    ],
)
def test_identity_the_nearest_name_and_all_of_them(name, known, expected):
    assert nearest(name, known) == expected

"""Defenses of a user's own module: what they are, and what each bad one is told before any work."""

import sys

import pytest
import torch

from stl_ray.defenses import DIVERGED, deployed_seeds, is_transformation, make_defense, options_of
from stl_ray.defenses.look import look
from stl_ray.errors import ConfigError, GradientError, StlRayError, TensorError
from stl_ray.images import quantize

SOUND = """
import torch
from torch import nn
import torch.nn.functional as F
from stl_ray.defenses import Purified, Transformation

def smoothed(size: int = 3, strength: float = 0.5):
    "Every pixel nearer to the mean of its neighbourhood."
    def transform(images):
        return images + strength * (F.avg_pool2d(images, size, 1, size // 2, count_include_pad=False) - images)
    transform.exact = True
    return transform

def rounded(bits=3, how=None):
    return lambda images: (images * 2**bits).round() / 2**bits

class Blur(nn.Module):
    exact = True
    def __init__(self, weight: float = 0.2):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
        self.drawn = nn.Dropout()
        nn.init.constant_(self.convolution.weight, weight / 9)
        self.kept = nn.Parameter(torch.rand(()) / 2)  # as drawn
    def forward(self, images):
        return self.drawn(self.convolution(images)) + self.kept * images

class Noisy(nn.Module):
    randomised = exact = True
    def forward(self, images, seeds):
        drawn = [torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return 0.9 * images + 0.1 * torch.stack(drawn).to(images)

def in_place():
    return lambda images: images.mul_(0.5)

class Halved(Transformation):
    name = "halved"
    gradients = ("stand_in", "bpda")
    def identity(self):
        return {"factor": 0.5}
    def purify(self, images, *, seeds, exclude=None):
        return Purified.without_solver(images / 2)
    def linearised(self, gradient):
        if gradient == "bpda":
            return super().linearised(gradient)
        return lambda images, seeds: (images / 2, lambda v: v / 2)
"""

BAD = """
import random
import numpy as np
import torch
from stl_ray.defenses import Purified, Transformation, make_defense

def exact(transform, value=True):
    transform.exact = value
    return transform

def randomised(transform):
    transform.randomised = True
    return transform

def shape(): return lambda images: images[:, :, 1:]
def one(): return lambda images: images.mean(0, keepdim=True)
def kind(): return lambda images: images.double()
def bytes_(): return lambda images: (images * 255).byte()
def array(): return lambda images: images.numpy()
def range_(): return lambda images: images * 1.1
def finite(): return lambda images: images / images.amax((1, 2, 3), keepdim=True)
def mates(): return lambda images: (images - images.mean() / 10).clamp(0, 1)
def mate(): return lambda images: (images + images[:1]) / 2
def draws():
    generator = torch.Generator().manual_seed(0)
    return lambda images: images * torch.rand((), generator=generator)
class InPlace(Transformation):
    name = "in place"
    def identity(self): return {}
    def purify(self, images, *, seeds, exclude=None): return Purified.without_solver(images.mul_(0.5))
def of_torch(): return lambda images: (images + torch.rand(images.shape)) / 2
def of_numpy(): return lambda images: images * float(np.random.rand())
def of_python(): return lambda images: images * random.random()
def seeded():
    def transform(images):
        torch.manual_seed(0)
        return (images + torch.rand(images.shape)) / 2
    return transform
def one_stream():
    return randomised(lambda images, seeds: (images + torch.rand(images.shape, generator=torch.Generator().manual_seed(seeds[0]))) / 2)
def fails(): return lambda images: images @ images[:, :, :3, :5]
def cut(): return exact(lambda images: images.detach() / 2)
def numpy(): return exact(lambda images: torch.from_numpy(images.numpy() / 2))
def without(): return exact(torch.no_grad()(lambda images: images / 2))
def rounds(): return exact(lambda images: (images * 8).round() / 8)
def straight(): return exact(lambda images: images + ((images * 8).round() / 8 - images).detach())
def partly(): return exact(lambda images: images * (0.5 + images.detach() / 2))
def root(): return exact(lambda images: (images - images).sqrt() + images / 2)

def nothing(): return None
def a_number(size: int = 3): return size
def ensemble(): return make_defense("ensemble", {"of": ["none", "jpeg"]}, {"members": {"jpeg": make_defense("jpeg", {}, {})}})
def wrong_word(): return exact(lambda images: images, "yes")
def raises(size: int = 3): raise KeyError("no such key")
def positional(size, /): return None
def typed(size: torch.Tensor): return None
def unknown(size: "Sizes"): return None
def private(_size: int = 3): return None
def taken(members: str = "a"): return None
def no_json(size=torch.float32): return lambda images: images
value = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Puts modules `owned` and `spoiled` on Python's path; `written` again, as another process would find it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**texts: str) -> None:
        for name, text in texts.items():
            sys.modules.pop(name, None)
            (tmp_path / f"{name}.py").write_text(text)

    write(owned=SOUND, spoiled=BAD)
    yield write
    for name in ("owned", "spoiled"):
        sys.modules.pop(name, None)


@pytest.fixture
def images(natural_images):
    return quantize(natural_images[::6])


def made(reference: str, **options):
    return make_defense(reference, options, {})


def purified(defense, images):
    return defense.purify(images, seeds=deployed_seeds(0, [str(row) for row in range(len(images))]))


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("name", "gradients", "randomised"),
    [
        ("smoothed", ("exact", "bpda"), False),
        ("rounded", ("bpda",), False),
        ("in_place", ("bpda",), False),
        ("Blur", ("exact", "bpda"), False),
        ("Noisy", ("exact", "bpda"), True),
        ("Halved", ("stand_in", "bpda"), False),
    ],
)
def test_certificate_what_keeps_its_promises_passes_and_is_what_it_says(name, gradients, randomised, images):
    defense = made(f"owned:{name}")
    assert is_transformation(f"owned:{name}")
    look(defense, {}, images, item=name)
    assert (defense.name, defense.gradients, defense.randomised) == (f"owned:{name}", gradients, randomised)
    out = purified(defense, images)
    assert torch.equal(purified(defense, images[2:3]).images, out.images[2:3]) != randomised  # another seed in its row
    assert set(out.status) == {"applied"} and not out.images.requires_grad
    with torch.inference_mode():
        assert torch.equal(purified(made(f"owned:{name}"), images).images, out.images)
    v = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    seeds = deployed_seeds(0, [str(row) for row in range(len(images))])
    at, pullback = defense.linearised(gradients[0])(images, seeds)
    assert torch.equal(at, out.images)
    assert torch.equal(pullback(v), v) == (gradients[0] == "bpda")
    with pytest.raises(GradientError, match=f"owned:{name}"):
        defense.linearised({"exact": "stand_in", "stand_in": "exact", "bpda": "exact"}[gradients[0]])


@pytest.mark.usefixtures("module")
def test_identity_options_are_the_function_s_parameters(images):
    strong, weak = made("owned:smoothed", strength=1.0), made("owned:smoothed", strength=0.0)
    assert torch.equal(purified(weak, images).images, images)
    assert not torch.equal(purified(strong, images).images, images)
    assert options_of("owned:smoothed", {"size": 5}).model_dump() == {"size": 5, "strength": 0.5}
    assert options_of("owned:rounded", {"bits": 2}).requires == frozenset()


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("options", "item", "expected"),
    [
        ({"sise": 3}, "owned:smoothed.sise", "'size'?"),
        ({"size": "three"}, "owned:smoothed.size", "a valid integer"),
        ({"size": 2.5}, "owned:smoothed.size", "a valid integer"),
    ],
)
def test_refuses_options_that_it_does_not_have(options, item, expected):
    with pytest.raises(ConfigError) as caught:
        made("owned:smoothed", **options)
    assert caught.value.item == item and expected in str(caught.value)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("count", [1, 16, 17])
def test_invariant_a_function_that_works_in_place_leaves_the_images_alone(natural_images, count):
    images = quantize(natural_images[:count])
    out = purified(made("owned:in_place"), images).images
    assert torch.equal(images, quantize(natural_images[:count])) and torch.equal(out, images / 2)


def test_certificate_its_identity_is_of_source_options_and_weights(module):
    smoothed, blur = (made(f"owned:{name}").identity() for name in ("smoothed", "Blur"))
    assert made("owned:smoothed").identity() == smoothed and made("owned:Blur").identity() == blur
    assert made("owned:smoothed", size=5).identity() != smoothed
    torch.manual_seed(5)
    assert made("owned:Blur").identity() == blur  # what it draws is the same wherever it is made
    changed = made("owned:Blur", weight=0.1).identity()
    assert changed["made"]["weights"] != blur["made"]["weights"]
    module(owned=SOUND + "# another version\n")
    assert made("owned:smoothed").identity() != smoothed


REFUSED = {
    "shape": (
        TensorError,
        r"makes no images of images; expected \(16, 3, 32, 32\) float32 on cpu; got \(16, 3, 31, 32\)",
    ),
    "one": (TensorError, r"got \(1, 3, 32, 32\)"),
    "kind": (TensorError, "got .*float64"),
    "bytes_": (TensorError, "got .*uint8"),
    "array": (TensorError, "got ndarray"),
    "range_": (TensorError, r"images that are none .*expected finite values in \[0, 1\]; got 0 to 1.1"),
    "finite": (TensorError, "got NaN or infinity"),
    "mates": (TensorError, "change with the other images of the batch"),
    "mate": (TensorError, "change with the other images of the batch"),
    "draws": (TensorError, "change from call to call"),
    "InPlace": (TensorError, "changes its images in place"),
    "of_torch": (TensorError, "state of random numbers that all share"),
    "of_numpy": (TensorError, "state of random numbers that all share"),
    "of_python": (TensorError, "state of random numbers that all share"),
    "seeded": (TensorError, "state of random numbers that all share"),
    "one_stream": (TensorError, "change with the other images of the batch"),
    "fails": (TensorError, r"fails on \(7, 3, 32, 32\) images \(RuntimeError"),
    "cut": (GradientError, "no exact gradient .*does not require grad"),
    "numpy": (GradientError, "no exact gradient .*numpy"),
    "without": (GradientError, "no exact gradient .*does not require grad"),
    "rounds": (GradientError, "zero for every image"),
    "straight": (GradientError, "not its derivative"),
    "partly": (GradientError, "not its derivative"),
    "root": (GradientError, "not finite"),
}


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_gives_wrong_figures_before_any_work(name, images):
    kind, expected = REFUSED[name]
    state = torch.get_rng_state()
    with pytest.raises(kind, match=f"mine: spoiled:{name}: .*{expected}"):
        look(made(f"spoiled:{name}"), {}, images, item="mine")
    torch.set_rng_state(state)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("nowhere:make", "nowhere cannot be imported"),
        ("owned:smothed", "no such function; expected 'smoothed'?"),
        ("owned:", "no reference to a function"),
        ("spoiled:value", "no such function"),
        ("spoiled:nothing", "returns nothing that transforms images; .*got NoneType"),
        ("spoiled:a_number", "got int"),
        ("spoiled:ensemble", "expected a function of images.*got Ensemble"),
        ("spoiled:wrong_word", "spoiled:wrong_word.exact: .*True or False; got 'yes'"),
        ("spoiled:raises", "fails with these options .KeyError.*got {'size': 3}"),
        ("spoiled:positional", "cannot be given by name.*got size"),
        ("spoiled:typed", "a type that no option has"),
        ("spoiled:unknown", "its parameters cannot be read .NameError"),
        ("spoiled:private", "spoiled:private._size: an option cannot be called so"),
        ("spoiled:taken", "spoiled:taken.members: an option cannot be called so"),
        ("spoiled:no_json", "no JSON"),
    ],
)
def test_refuses_what_is_no_defense(reference, expected):
    with pytest.raises(ConfigError, match=expected):
        made(reference)


@pytest.mark.usefixtures("module")
def test_refuses_one_that_wants_an_option_by_its_name():
    with pytest.raises(ConfigError, match=r"owned:Halved.strength: unknown option; expected none, it has no options"):
        made("owned:Halved", strength=1.0)


def test_identity_an_image_that_it_makes_nothing_of_is_lost_and_the_others_are_not(module, images):
    module(owned="def make():\n    return lambda images: images / (images.amax((1, 2, 3), keepdim=True) > 0)\n")
    black = torch.cat([images, torch.zeros_like(images[:1])])
    out = purified(made("owned:make"), black)
    assert out.status == ["applied"] * 4 + [DIVERGED]
    assert bool(out.images[4].isnan().all()) and torch.equal(out.images[:4], images)


def test_certificate_what_rounding_takes_outside_is_stored_as_white(module, images):
    module(owned="def make():\n    return lambda images: images * (1 + 1e-6)\n")
    assert float(purified(made("owned:make"), torch.ones_like(images)).images.max()) == 1


@pytest.mark.usefixtures("module")
def test_identity_a_look_names_the_defense_and_the_classifier_that_do_not_go_together(images):
    class Picky:
        def logits(self, batch):
            raise TensorError("too small", item="net", expected=64, got=32)

    with pytest.raises(StlRayError, match="mine in front of resnet: net: too small; expected 64; got 32"):
        look(made("owned:rounded"), {"resnet": Picky()}, images, item="mine")

from dataclasses import replace

import pytest

from stl_ray.report import charts
from stl_ray.report.blocks import Figure, Text
from stl_ray.report.inputs import read_inputs
from stl_ray.report.learning import curve_blocks, space_blocks


@pytest.fixture
def inputs(experiment_root, monkeypatch):
    """What the experiment holds; figures are not drawn, which takes most of the time."""
    monkeypatch.setattr(charts, "to_png", lambda draw, *args: draw.__name__.encode())
    monkeypatch.setattr(
        charts, "chart", lambda name, caption, draw, *args: Figure(name, caption, draw.__name__.encode())
    )
    return read_inputs(str(experiment_root))


@pytest.fixture
def space(inputs):
    return inputs.spaces[0]


def texts(blocks):
    return [block.text for block in blocks if isinstance(block, Text)]


def figures(blocks):
    return {block.name: block for block in blocks if isinstance(block, Figure)}


def with_curves(space, **values):
    return replace(space, curves=space.curves.model_copy(update=values))


def with_autoencoder(space, **values):
    epochs = tuple(epoch.model_copy(update=values) for epoch in space.curves.autoencoder)
    return with_curves(space, autoencoder=epochs)


def test_identity_the_space_shows_its_autoencoder_its_diagnostic_and_its_filters(space):
    blocks = space_blocks(space)
    (text,) = texts(blocks)
    assert "(epoch 20 of 20, the one of the least validation loss)" in text
    assert "from 17.25 dB to 21.70 dB" in text
    assert list(figures(blocks)) == [
        f"space-natural-{name}" for name in ("candidates", "filters", "autoencoder", "dictionaries")
    ]
    assert "This space has 4 (dotted line)." in figures(blocks)["space-natural-candidates"].caption


def test_identity_the_autoencoder_is_the_one_that_was_kept(space):
    epochs = list(space.curves.autoencoder)
    epochs[4] = epochs[4].model_copy(update={"validation_loss": 0.1, "psnr": 23.5})
    space = with_curves(space, autoencoder=tuple(epochs))
    (text,) = texts(space_blocks(space))
    assert "epoch 5 of 20" in text and "to 23.50 dB" in text


def test_certificate_an_autoencoder_that_makes_images_worse_is_said_to(space):
    assert [block.kind for block in space_blocks(space) if isinstance(block, Text)] == ["plain"]
    (block,) = [b for b in space_blocks(with_autoencoder(space, psnr=16.0)) if isinstance(b, Text)]
    assert block.kind == "caveat" and "It blurs more than it denoises" in block.text


def test_invariant_older_curves_leave_out_what_they_do_not_have(space):
    older = with_autoencoder(space, noisy_psnr=None)
    clusters = older.curves.clusters.model_copy(update={"candidates": ()})
    older = with_curves(older, clusters=clusters)
    blocks = space_blocks(older)
    assert texts(blocks) == [] and "space-natural-candidates" not in figures(blocks)
    pretrained = with_curves(older, autoencoder=())
    assert texts(space_blocks(pretrained)) == []


def test_identity_a_missing_space_is_said_to_be_missing(space):
    (text,) = texts(space_blocks(replace(space, stored=None, curves=None)))
    assert text.startswith("Not here yet: spaces/natural/space.json")
    (text,) = texts(space_blocks(replace(space, curves=None)))
    assert text.startswith("Not here yet: spaces/natural/curves.json")


def test_certificate_dictionaries_that_did_not_converge_are_counted(space):
    caption = figures(space_blocks(space))["space-natural-dictionaries"].caption
    assert caption.endswith(" 4 of 5 have converged; the others used up their iterations.")
    dictionaries = {name: steps for name, steps in space.curves.dictionaries.items() if name != "cluster_3"}
    changed = with_curves(space, dictionaries=dictionaries)
    assert figures(space_blocks(changed))["space-natural-dictionaries"].caption.endswith(" 4 of 4 have converged.")


def test_invariant_older_curves_do_not_say_whether_dictionaries_converged(space):
    dictionaries = {
        name: tuple(step.model_copy(update={"converged": None}) for step in steps)
        for name, steps in space.curves.dictionaries.items()
    }
    older = with_curves(space, dictionaries=dictionaries)
    assert figures(space_blocks(older))["space-natural-dictionaries"].caption.endswith("universal and per cluster.")


def test_identity_validation_is_said_to_select_nothing(inputs):
    caption = figures(curve_blocks(inputs))["curves-classifiers"].caption
    assert "Dashes: the test split" in caption and "the last epoch's weights are kept" in caption
    unvalidated = {
        name: tuple(epoch.model_copy(update={"validation_loss": None}) for epoch in epochs)
        for name, epochs in inputs.training.items()
    }
    without = figures(curve_blocks(replace(inputs, training=unvalidated)))["curves-classifiers"].caption
    assert without == "The classifiers, vanilla and retrained."

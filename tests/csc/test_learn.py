import json
import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stl_ray.config.sections import DictionaryConfig
from stl_ray.csc import Dictionary, LearningStep, learn_dictionary, operator_of, reconstruct, solve_cbpdn, split_bands
from stl_ray.csc.certificate import objective
from stl_ray.errors import TensorError

CONFIG = DictionaryConfig(filters=16, size=8, lmbda=0.2, iterations=6)


def learn(images: Tensor, holdout: Tensor, config: DictionaryConfig = CONFIG, name: str = "a") -> list[LearningStep]:
    return list(learn_dictionary(images, config, seed=0, name=name, holdout=holdout))


def coded_objective(dictionary: Dictionary, images: Tensor) -> float:
    highpass = split_bands(images)[1]
    maps = solve_cbpdn(highpass, dictionary, 0.2, accuracy="reference").maps
    operator = operator_of(dictionary, *images.shape[2:], torch.float32, images.device)
    return float(objective(maps, highpass, operator, 0.2).mean())


@pytest.fixture(scope="module")
def steps(natural_images: Tensor) -> list[LearningStep]:
    return learn(natural_images[::2], natural_images[1::2])


def test_certificate_the_holdout_objective_falls(steps: list[LearningStep], natural_images: Tensor) -> None:
    assert [step.iteration for step in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1].holdout_objective < 0.99 * steps[0].holdout_objective
    assert all(after.holdout_objective < before.holdout_objective * 1.005 for before, after in pairwise(steps))
    assert 0 < steps[-1].sparsity < 0.1
    assert steps[-1].psnr > 20


def test_agrees_with_a_fresh_solve_of_the_holdout(steps: list[LearningStep], natural_images: Tensor) -> None:
    expected = coded_objective(steps[-1].dictionary, natural_images[1::2])
    assert steps[-1].holdout_objective == pytest.approx(expected, rel=0.01)


def test_certificate_every_step_keeps_the_constraint_set(steps: list[LearningStep]) -> None:
    for step in steps:
        filters = step.dictionary.filters
        assert filters.shape == (16, 3, 8, 8)
        assert (filters.flatten(1).norm(dim=1) - 1).abs().max() < 1e-5
        assert filters.mean((2, 3)).abs().max() < 1e-6
        assert step.dictionary.lmbda == 0.2


def test_agrees_with_sporcos_batch_learner(steps: list[LearningStep], natural_images: Tensor) -> None:
    import sporco.fft
    from sporco.dictlrn import cbpdndl

    sporco.fft.pyfftw_threads = 1
    images, holdout = natural_images[::2], natural_images[1::2]
    start = torch.randn((16, 3, 8, 8), generator=torch.Generator().manual_seed(0)).permute(2, 3, 1, 0).numpy()
    options = cbpdndl.ConvBPDNDictLearn.Options(
        {"Verbose": False, "MaxMainIter": 60, "CBPDN": {"rho": 10.5}, "CCMOD": {"ZeroMean": True}}, dmethod="cns"
    )
    signals = split_bands(images)[1].permute(2, 3, 1, 0).numpy()
    learner = cbpdndl.ConvBPDNDictLearn(start, signals, 0.2, options, dmethod="cns")
    learner.solve()
    filters = torch.from_numpy(learner.getdict().squeeze()).permute(3, 2, 0, 1).float().contiguous()
    theirs = coded_objective(Dictionary(filters, 0.2), holdout)
    ours = coded_objective(steps[-1].dictionary, holdout)
    assert ours < 1.03 * theirs


def test_invariant_under_seed_and_name(natural_images: Tensor, steps: list[LearningStep]) -> None:
    config = CONFIG.model_copy(update={"iterations": 1})
    again = learn(natural_images[::2], natural_images[1::2], config)
    assert torch.equal(again[0].dictionary.filters, steps[0].dictionary.filters)
    other = learn(natural_images[::2], natural_images[1::2], config, name="b")
    assert not torch.equal(other[0].dictionary.filters, steps[0].dictionary.filters)


def test_invariant_large_images_cost_a_window(natural_images: Tensor) -> None:
    large = natural_images[:4].repeat(1, 1, 3, 4)
    config = CONFIG.model_copy(update={"iterations": 1})
    (step,) = learn(large, natural_images[4:6], config)
    assert step.dictionary.filters.shape == (16, 3, 8, 8)
    assert math.isfinite(step.objective)


def test_identity_psnr_of_the_mean_squared_error(steps: list[LearningStep], natural_images: Tensor) -> None:
    images = natural_images[1::2]
    projected = reconstruct(images, steps[-1].dictionary, 0.2, accuracy="reference").images
    expected = -10 * math.log10(float((projected - images).square().mean()))
    assert steps[-1].psnr == pytest.approx(expected, abs=0.1)


def test_invariant_black_holdout_images_leave_a_finite_record(natural_images: Tensor) -> None:
    config = CONFIG.model_copy(update={"iterations": 1})
    black = torch.zeros(1, 3, 32, 32)
    some, only = (
        learn(natural_images[:12], holdout, config)[0] for holdout in (torch.cat([natural_images[12:14], black]), black)
    )
    json.dumps([some.psnr, only.psnr], allow_nan=False)
    assert 20 < some.psnr < 60 < only.psnr


def test_refuses_images_of_which_no_coefficient_survives_lambda(natural_images: Tensor) -> None:
    faint = 0.3 + 0.05 * (torch.rand((40, 3, 32, 32), generator=torch.Generator().manual_seed(0)) - 0.5)
    with pytest.raises(TensorError, match="contrast") as caught:
        learn(faint, natural_images[4:6], CONFIG.model_copy(update={"lmbda": 1.0}), name="cluster 3")
    assert caught.value.item == "cluster 3"


def test_refuses_images_that_teach_nothing(natural_images: Tensor) -> None:
    nan = natural_images[:4].clone()
    nan[2, 0, 0, 0] = math.nan
    for bad in (nan, torch.full((4, 3, 32, 32), 0.5), natural_images[:0], natural_images[0], natural_images[:, :, :7]):
        with pytest.raises(TensorError):
            learn(bad, natural_images[4:6])
    with pytest.raises(TensorError):
        learn(natural_images[:4], natural_images[:0])

import json
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from stl_ray.config.spaces import DictionaryConfig
from stl_ray.csc import Dictionary, LearningStep, learn_dictionary, operator_of, reconstruct, solve_cbpdn, split_bands
from stl_ray.csc.certificate import objective
from stl_ray.csc.learning import Block, LocalBlockPool, alternation, learn, partition
from stl_ray.csc.learning.constraint import ConstraintSet
from stl_ray.errors import TensorError

CONFIG = DictionaryConfig(method="consensus", filters=16, size=8, lmbda=0.2, iterations=8, block=4, tolerance=0)
METHODS = ["consensus", "online"]


def changed(**keys: object) -> DictionaryConfig:
    return CONFIG.model_copy(update=keys)


def learned(images: Tensor, holdout: Tensor, config: DictionaryConfig = CONFIG, name: str = "a") -> list[LearningStep]:
    return list(learn_dictionary(images, config, seed=0, name=name, holdout=holdout))


def pool_of(
    images: Tensor, holdout: Tensor, config: DictionaryConfig, kind: type[LocalBlockPool] = LocalBlockPool
) -> LocalBlockPool:
    blocks = [
        Block([images[i] for i in part], [str(i) for i in part], config, seed=0)
        for part in partition(len(images), config.block)
    ]
    return kind(blocks, [Block(list(holdout), [f"holdout {n}" for n in range(len(holdout))], config, seed=0)])


def coded_objective(dictionary: Dictionary, images: Tensor) -> float:
    highpass = split_bands(images)[1]
    maps = solve_cbpdn(highpass, dictionary, dictionary.lmbda, accuracy="reference").maps
    operator = operator_of(dictionary, *images.shape[2:], torch.float32, images.device)
    return float(objective(maps, highpass, operator, dictionary.lmbda).mean())


@pytest.fixture(scope="module")
def images(natural_images: Tensor) -> Tensor:
    return natural_images[::2]


@pytest.fixture(scope="module")
def holdout(natural_images: Tensor) -> Tensor:
    return natural_images[1::2]


@pytest.fixture(scope="module")
def many() -> tuple[Tensor, Tensor]:
    """Ninety-six images of four photographs, and thirty-two others: enough for learning to generalise."""
    from skimage import data

    photographs = (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())
    crops = []
    for photograph in photographs:
        whole = torch.from_numpy(photograph.copy()).permute(2, 0, 1).float() / 255
        halved = torch.nn.functional.avg_pool2d(whole, 2)[:, :128, :192]
        tiles = halved.unfold(1, 32, 32).unfold(2, 32, 32).permute(1, 2, 0, 3, 4).flatten(0, 1)
        crops.append(torch.cat([tiles, tiles.flip(-1)])[:32])
    mixed = torch.stack(crops, dim=1).flatten(0, 1)[torch.randperm(128, generator=torch.Generator().manual_seed(0))]
    return mixed[:96], mixed[96:]


@pytest.fixture(scope="module", params=METHODS)
def steps(request: pytest.FixtureRequest, images: Tensor, holdout: Tensor) -> list[LearningStep]:
    return learned(images, holdout, changed(method=request.param))


def test_certificate_the_holdout_objective_falls(steps: list[LearningStep]) -> None:
    assert [step.iteration for step in steps] == list(range(1, 9))
    assert steps[-1].holdout_objective < 0.99 * steps[0].holdout_objective
    assert steps[-1].objective < 0.9 * steps[0].objective
    assert 0 < steps[-1].sparsity < 0.1
    assert steps[-1].psnr > 20


def test_agrees_with_a_fresh_solve_of_the_holdout(steps: list[LearningStep], holdout: Tensor) -> None:
    assert steps[-1].holdout_objective == pytest.approx(coded_objective(steps[-1].dictionary, holdout), rel=0.01)


def test_identity_psnr_of_the_mean_squared_error(steps: list[LearningStep], holdout: Tensor) -> None:
    projected = reconstruct(holdout, steps[-1].dictionary, 0.2, accuracy="reference").images
    expected = -10 * math.log10(float((projected - holdout).square().mean()))
    assert steps[-1].psnr == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(("norm", "lmbda"), [("joint", 0.2), ("per_channel", 0.35)])
@pytest.mark.parametrize("zero_mean", [True, False])
def test_certificate_every_step_keeps_the_constraint_set(
    images: Tensor, holdout: Tensor, norm, lmbda: float, zero_mean: bool, assert_in_the_set
) -> None:
    config = changed(norm=norm, lmbda=lmbda, zero_mean=zero_mean, iterations=2)
    for step in learned(images, holdout, config):
        assert step.dictionary.filters.shape == (16, 3, 8, 8)
        assert (step.dictionary.lmbda, step.dictionary.norm) == (lmbda, norm)
        assert_in_the_set(step.dictionary.filters, ConstraintSet(norm, zero_mean))


def test_agrees_whatever_the_blocks_and_the_method(many: tuple[Tensor, Tensor]) -> None:
    """One, two and four blocks, and online, within 1 % on images that learning did not see."""
    configs = [changed(block=block, iterations=8) for block in (96, 48, 24)]
    configs.append(changed(method="online", block=12, iterations=16))
    reached = [learned(*many, config)[-1].holdout_objective for config in configs]
    assert max(reached) < 1.01 * min(reached)


@pytest.fixture(scope="module")
def sporcos_objective(images: Tensor, holdout: Tensor) -> float:
    """Of the holdout, coded for the filters of SPORCO's batch learner."""
    pytest.importorskip("sporco")
    import sporco.fft
    from sporco.dictlrn import cbpdndl

    sporco.fft.pyfftw_threads = 1
    start = torch.randn((16, 3, 8, 8), generator=torch.Generator().manual_seed(0)).permute(2, 3, 1, 0).numpy()
    options = cbpdndl.ConvBPDNDictLearn.Options(
        {"Verbose": False, "MaxMainIter": 60, "CBPDN": {"rho": 10.5}, "CCMOD": {"ZeroMean": True}}, dmethod="cns"
    )
    signals = split_bands(images)[1].permute(2, 3, 1, 0).numpy()
    learner = cbpdndl.ConvBPDNDictLearn(start, signals, 0.2, options, dmethod="cns")
    learner.solve()
    filters = torch.from_numpy(learner.getdict().squeeze()).permute(3, 2, 0, 1).float().contiguous()
    return coded_objective(Dictionary(filters, 0.2), holdout)


def test_agrees_with_sporcos_batch_learner(
    steps: list[LearningStep], sporcos_objective: float, holdout: Tensor
) -> None:
    assert coded_objective(steps[-1].dictionary, holdout) < 1.03 * sporcos_objective


@pytest.mark.parametrize("method", METHODS)
def test_roundtrip_learning_goes_on_where_it_stopped(images: Tensor, holdout: Tensor, method: str) -> None:
    """From rows and tensors that went through files, in a pool that remembers nothing."""
    config = changed(method=method, iterations=7)
    whole = list(learn(pool_of(images, holdout, config), config, seed=0, name="a"))
    for stop in (1, 6):
        curve = json.loads(json.dumps([step.row() for step in whole[:stop]], allow_nan=False))
        state = load(save(whole[stop - 1].state()))
        rest = list(learn(pool_of(images, holdout, config), config, seed=0, name="a", curve=curve, state=state))
        assert [step.row() for step in rest] == [step.row() for step in whole[stop:]]
        assert rest[-1].dictionary == whole[-1].dictionary
        last, expected = rest[-1].state(), whole[-1].state()
        assert last.keys() == expected.keys()
        assert all(torch.equal(last[key], expected[key]) for key in expected)


@pytest.mark.parametrize("method", METHODS)
def test_invariant_under_threads(images: Tensor, holdout: Tensor, method: str, threads: Callable[[int], None]) -> None:
    large = torch.cat([images[:4], images[4:8]], dim=-1)
    found = []
    for count in (1, 2):
        threads(count)
        found.append(learned(large, holdout, changed(method=method, iterations=2, block=2))[-1])
    assert found[0].dictionary == found[1].dictionary
    assert found[0].row() == found[1].row()


def test_invariant_under_seed_and_name(images: Tensor, holdout: Tensor) -> None:
    config = changed(iterations=1)
    first, again = (learned(images, holdout, config)[0] for _ in range(2))
    assert first.dictionary == again.dictionary
    assert learned(images, holdout, config, name="b")[0].dictionary != first.dictionary
    (other,) = learn_dictionary(images, config, seed=1, name="a", holdout=holdout)
    assert other.dictionary != first.dictionary


class Ended(Exception):
    """What a test wanted to see has been seen."""


class Recording(LocalBlockPool):
    """Ends learning at the first filters that images are to be coded for."""

    def code(self, filters: Tensor):
        raise Ended(filters)


def first_filters(images: Tensor, ids: Sequence[str], config: DictionaryConfig) -> Tensor:
    parts = partition(len(images), config.block)
    blocks = [Block([images[i] for i in part], [ids[i] for i in part], config, seed=0) for part in parts]
    with pytest.raises(Ended) as caught:
        next(learn(Recording(blocks, []), config, seed=0, name="a"))
    filters: Tensor = caught.value.args[0]
    return filters


def test_invariant_initial_filters_depend_on_no_partition_and_no_order(images: Tensor, assert_in_the_set) -> None:
    ids = [f"train/{i}" for i in range(len(images))]
    expected = first_filters(images, ids, changed(block=12))
    assert_in_the_set(expected, ConstraintSet())
    for block in (1, 5):
        assert torch.equal(first_filters(images, ids, changed(block=block)), expected)
    backwards = first_filters(images.flip(0), ids[::-1], changed(block=5))
    assert torch.equal(backwards, expected)


def test_certificate_initial_filters_are_different_patches_of_many_images(images: Tensor) -> None:
    filters = first_filters(images, [str(i) for i in range(len(images))], CONFIG)
    every = split_bands(images)[1].unfold(2, 8, 1).unfold(3, 8, 1).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    patches = ConstraintSet().project(every.flatten(0, 1)).flatten(1)
    nearest = (filters.flatten(1) @ patches.T).max(dim=1)
    assert (nearest.values > 0.9999).all()
    assert len(nearest.indices.unique()) == 16
    assert len((nearest.indices // every.shape[1]).unique()) > 5


def test_invariant_many_images_are_not_all_looked_at_for_initial_filters(images: Tensor) -> None:
    asked = []

    class BlockPool(Recording):
        def patches(self, per_image: int, blocks: Sequence[int]) -> list[Tensor]:
            asked.append((per_image, list(blocks)))
            return super().patches(per_image, blocks)

    for filters, per_image, blocks in ((16, 14, [0, 1, 2, 3, 4, 5]), (1, 1, [0, 1, 2, 3, 4])):
        config = changed(filters=filters, block=4)
        two = torch.cat([images, images])
        with pytest.raises(Ended):
            next(learn(pool_of(two, images, config, BlockPool), config, seed=0, name="a"))
        assert asked.pop() == (per_image, blocks)


def test_invariant_learning_stops_when_the_holdout_objective_stops_falling(images: Tensor, holdout: Tensor) -> None:
    config = changed(tolerance=0.5, iterations=9)
    steps = learned(images, holdout, config)
    assert [step.converged for step in steps] == [False] * 5 + [True]
    curve = [step.row() for step in steps]
    pool = pool_of(images, holdout, config)
    assert list(learn(pool, config, seed=0, name="a", curve=curve, state=steps[-1].state())) == []
    # Four iterations that were done before count among the last five.
    rest = learn(pool, config, seed=0, name="a", curve=curve[:4], state=steps[3].state())
    assert [(step.iteration, step.converged) for step in rest] == [(5, False), (6, True)]


def test_identity_of_the_stopping_rule(images: Tensor, holdout: Tensor) -> None:
    """It stops at the first iteration by which the objective fell by less than a hundredth over the last five."""
    config, fallen = changed(tolerance=0.01, iterations=40), []
    for step in learned(images, holdout, config):
        fallen.append(step.holdout_objective)
        due = len(fallen) > 5 and (fallen[-6] - fallen[-1]) / fallen[-6] < 0.01
        assert step.converged == due
    assert 6 <= len(fallen) < 40
    assert due


def test_identity_the_step_ahead(images: Tensor, holdout: Tensor) -> None:
    """Images are coded for filters a step ahead, by the direction of the last update."""
    config, coded = changed(iterations=3), []

    class BlockPool(LocalBlockPool):
        def code(self, filters: Tensor):
            coded.append(filters)
            return super().code(filters)

    steps = list(learn(pool_of(images, holdout, config, BlockPool), config, seed=0, name="a"))
    path = [coded[0], *(step.dictionary.filters for step in steps)]
    for number in (1, 2):
        ahead = path[number] + alternation.MOMENTUM * (path[number] - path[number - 1])
        torch.testing.assert_close(coded[number], ConstraintSet().project(ahead))


def test_invariant_large_images_of_mixed_sizes_cost_a_window(images: Tensor, holdout: Tensor) -> None:
    config = changed(iterations=2)
    sizes = [(96, 80), (40, 64), (32, 32), (8, 200)]
    mixed = [images[0].repeat(1, 3, 7)[:, :height, :width] for height, width in sizes]
    pool = LocalBlockPool(
        [Block(mixed[:3], list("abc"), config, seed=0), Block(mixed[3:], ["d"], config, seed=0)],
        [Block(mixed[:2], list("ef"), config, seed=0)],
    )
    *_, step = learn(pool, config, seed=0, name="a")
    assert math.isfinite(step.objective)
    assert 10 < step.psnr < 60


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "keys", [{"filters": 1}, {"filters": 3, "size": 2}, {"filters": 2, "size": 32}, {"filters": 70}], ids=str
)
def test_invariant_extremes(images: Tensor, holdout: Tensor, method: str, keys: dict[str, int]) -> None:
    """One filter, the smallest, filters as large as the images, more than are used; a block for each image, one channel."""
    config = changed(method=method, iterations=2, block=1, **keys)
    steps = learned(images[:3, :1], holdout[:3, :1], config)
    assert steps[-1].dictionary.filters.shape == (config.filters, 1, config.size, config.size)
    assert all(math.isfinite(value) for value in steps[-1].row().values())


def test_invariant_one_image(images: Tensor, holdout: Tensor) -> None:
    steps = learned(images[1:2], holdout, changed(iterations=3, filters=4))
    assert steps[-1].objective < steps[0].objective


def test_invariant_without_the_native_core(images: Tensor, holdout: Tensor) -> None:
    """ADMM and spectra, as on other devices, to the same objective."""
    config = changed(iterations=2, filters=8)
    ours, theirs = (
        list(learn_dictionary(images[:6], config, seed=0, name="a", holdout=holdout[:4], method=method))[-1]
        for method in ("auto", "admm")
    )
    assert ours.holdout_objective == pytest.approx(theirs.holdout_objective, rel=0.02)


def test_invariant_black_holdout_images_leave_a_finite_record(natural_images: Tensor) -> None:
    config = changed(iterations=1)
    black = torch.zeros(1, 3, 32, 32)
    some, only = (
        learned(natural_images[:12], held, config)[0] for held in (torch.cat([natural_images[12:14], black]), black)
    )
    json.dumps([some.row(), only.row()], allow_nan=False)
    assert 20 < some.psnr < 60
    assert only.psnr == pytest.approx(120)


def test_identity_partition_into_equal_blocks() -> None:
    assert [list(part) for part in partition(5, 2)] == [[0], [1, 2], [3, 4]]
    for count, block in ((1, 250), (250, 250), (251, 250), (1000, 250), (7, 1)):
        sizes = [len(part) for part in partition(count, block)]
        assert sum(sizes) == count
        assert len(sizes) == math.ceil(count / block)
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("method", METHODS)
def test_refuses_images_of_which_no_coefficient_survives_lambda(holdout: Tensor, method: str) -> None:
    faint = 0.3 + 0.05 * (torch.rand((40, 3, 32, 32), generator=torch.Generator().manual_seed(0)) - 0.5)
    with pytest.raises(TensorError, match="contrast") as caught:
        learned(faint, holdout, changed(lmbda=1.0, method=method), name="cluster 3")
    assert caught.value.item == "cluster 3"


def test_refuses_images_that_fill_no_dictionary(images: Tensor) -> None:
    """Flat ones, and those that have fewer different patches than there are to be filters."""
    stripes = torch.zeros(3, 3, 32, 32)
    stripes[:, :, 16:] = 1
    for bad, got in ((torch.full((4, 3, 32, 32), 0.5), 0), (stripes, None), (images[:3, :, :9, :9], None)):
        with pytest.raises(TensorError, match="at least 64 different textured patches") as caught:
            learned(bad, images, changed(filters=64), name="cluster 3")
        assert caught.value.item == "cluster 3"
        assert got is None or caught.value.got == got


def test_refuses_images_by_name(images: Tensor, holdout: Tensor) -> None:
    nan = images[:4].clone()
    nan[2, 0, 0, 0] = math.nan
    ids = ["train/7", "train/8", "train/9", "train/10"]
    with pytest.raises(TensorError, match="finite") as caught:
        learn_dictionary(nan, CONFIG, seed=0, name="a", holdout=holdout, ids=ids)
    assert caught.value.item == "train/9"
    with pytest.raises(TensorError, match="smaller") as caught:
        learn_dictionary(images[:4, :, :7], CONFIG, seed=0, name="a", holdout=holdout, ids=ids)
    assert caught.value.item == "train/7"
    with pytest.raises(TensorError, match="finite") as caught:
        learn_dictionary(images, CONFIG, seed=0, name="a", holdout=nan, holdout_ids=ids)
    assert caught.value.item == "train/9"
    with pytest.raises(TensorError, match="one id"):
        learn_dictionary(images, CONFIG, seed=0, name="a", holdout=holdout, ids=ids)


def test_refuses_what_is_no_batch(images: Tensor, holdout: Tensor) -> None:
    for bad, good, item in (
        (images[:0], holdout, "a, images"),
        (images[0], holdout, "a, images"),
        (images, holdout[:0], ""),
    ):
        with pytest.raises(TensorError, match="N >= 1") as caught:
            learned(bad, good)
        assert caught.value.item == (item or "a, holdout")

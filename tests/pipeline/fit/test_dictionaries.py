"""Who holds the images of a dictionary, and what is left by a learning that is killed; without Ray."""

import json
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch

from stl_ray.config import RayConfig
from stl_ray.csc import learn_dictionary
from stl_ray.csc.learning import LocalBlockPool, learn
from stl_ray.errors import ConfigError, RunIdentityError, TensorError, TrainingError
from stl_ray.images import to_tensor
from stl_ray.pipeline.batches import pixels_of
from stl_ray.pipeline.fit import block_workers, dictionaries
from stl_ray.pipeline.fit.block_workers import BlockRows, Worker
from stl_ray.pipeline.fit.space_fit import SpaceFit
from stl_ray.store import Dataset, Layout, Storage
from stl_ray.store.local import LocalFiles
from stl_ray.training import DictionarySample

RECIPE = {
    "method": "consensus",
    "filters": 6,
    "size": 5,
    "images": 12,
    "holdout": 4,
    "block": 5,
    "iterations": 7,
    "tolerance": 0.0,
}
LEARN, HOLDOUT = [9, 4, 13, 0, 7, 2, 11, 5, 15, 3, 8, 6], [1, 10, 12, 14]
SAMPLES = "fit/samples-of-any-recipe"
NAMES = ["universal", "cluster_0", "cluster_1"]


@pytest.fixture
def prepared(experiment_of, crops, image_tables, finished_run):
    """Makes the fit of a recipe, and the dataset of 16 samples, the last four of another size."""

    def make(seed=None, ray=None, **recipe):
        space = {"name": "natural", "seed": seed, "dictionary": {**RECIPE, **recipe}}
        experiment = experiment_of(spaces=[space], ray=ray or {})
        fit = SpaceFit(experiment, experiment.spaces[0])
        folder = Layout(experiment.root).uri(SAMPLES)
        if Storage.open(folder).exists("MANIFEST.json"):
            return fit, Dataset.open(folder)
        tables = image_tables(crops(12) + crops(4, side=30), 6, 10)
        return fit, finished_run(experiment, SAMPLES, *tables)

    return make


def images_at(dataset, places) -> tuple[list[torch.Tensor], list[str]]:
    """(3, H, W) in [0, 1] each, and their ids."""
    table = pa.concat_tables(dataset.tables()).take(list(places))
    return [to_tensor([pixels])[0] for pixels in pixels_of(table)], table.column("id").to_pylist()


def test_identity_a_block_has_its_images_in_the_order_of_its_places(prepared):
    fit, dataset = prepared()
    block = BlockRows((13, 2, 9)).load(dataset, fit, "auto")
    images, ids = images_at(dataset, (13, 2, 9))
    assert ids == ["id-13", "id-2", "id-9"]
    same = block_workers.Block(images, ids, fit.space.dictionary, seed=fit.seed, method="auto")
    assert torch.equal(block.patches(3), same.patches(3))


def flat(answer) -> list[torch.Tensor]:
    """All numbers of what a block answers."""
    named = {"filters": answer} if isinstance(answer, torch.Tensor) else vars(answer)
    return [torch.as_tensor(named[name]) for name in sorted(named) if not name.startswith("_")]


def test_invariant_a_worker_that_holds_little_gives_the_same_answers(prepared, monkeypatch):
    fit, dataset = prepared()
    blocks = dict(enumerate([BlockRows((9, 4, 13)), BlockRows((0, 7)), BlockRows((2, 11, 5, 15))]))
    loads, load = [], BlockRows.load
    monkeypatch.setattr(BlockRows, "load", lambda self, *more: loads.append(self) or load(self, *more))
    patches = blocks[0].load(dataset, fit, "auto").patches(9)
    filters = patches[:6] / patches[:6].flatten(1).norm(dim=1)[:, None, None, None]
    problem = (filters, filters, filters, torch.ones(6, 1, 1, 1))
    questions = [("code", filters), ("statistics", filters), ("local_filters", *problem), ("judge", filters)]

    def answers(held_bytes):
        """Of all blocks in turn to each question; how often blocks were loaded, and how many are held at the end."""
        monkeypatch.setattr(block_workers, "HELD_BYTES", held_bytes)
        worker = Worker(fit, dataset, blocks, "auto", block_workers.__version__)
        loads.clear()
        found = [flat(worker.answer(number, *question)) for question in questions for number in blocks]
        return found, len(loads), len(worker._blocks)

    whole, *counts = answers(2**30)
    assert counts == [3, 3]
    for held_bytes, expected in ((1, [12, 1]), (60_000, [12, 2])):
        scarce, *counts = answers(held_bytes)
        assert counts == expected
        for one, other in zip(whole, scarce, strict=True):
            assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_refuses_a_worker_of_another_version(prepared):
    with pytest.raises(ConfigError, match=r"a node has another version of stl-ray; expected 9\.9"):
        Worker(*prepared(), {}, "auto", "9.9")


class PoolHere:
    """A RayBlockPool without Ray."""

    def __init__(self, fit, name, dataset, blocks, holdout, *, workers, method):
        self._parts = [[part.load(dataset, fit, method) for part in parts] for parts in (blocks, holdout)]

    def __enter__(self):
        return LocalBlockPool(*self._parts)

    def __exit__(self, *_):
        pass


@pytest.fixture
def iterations(monkeypatch) -> list[int]:
    """How many iterations every learning has had to do. There is no Ray, and a checkpoint after every second."""
    counts = []

    def counted(*arguments, **keys):
        counts.append(0)
        for step in learn(*arguments, **keys):
            counts[-1] += 1
            yield step

    monkeypatch.setattr(dictionaries, "RayBlockPool", PoolHere)
    monkeypatch.setattr(dictionaries, "learn", counted)
    monkeypatch.setattr(dictionaries, "EVERY", 2)
    return counts


def board_of(post=lambda units: None):
    """A board that hands the units that are posted or resumed to `post`."""
    return SimpleNamespace(
        post=SimpleNamespace(remote=lambda units, note: post(units)),
        resume=SimpleNamespace(remote=lambda name, units: post(units)),
    )


def learning_of(fit, dataset, name="universal", learned=LEARN, held=HOLDOUT, method="auto"):
    return dictionaries._Learning(fit, name, dataset, learned, held, method)


def files_of(learning) -> dict[str, bytes]:
    return {name: learning._storage.read(name) for name in learning._storage.names()}


@pytest.mark.parametrize("method", ["consensus", "online"])
def test_agrees_with_learning_in_one_process(prepared, iterations, method):
    fit, dataset = prepared(method=method)
    # Those of one size, as a batch has it.
    places = [[place for place in part if place < 12] for part in (LEARN, HOLDOUT)]
    learning = learning_of(fit, dataset, "cluster_0", *places)
    learning.run(1, board_of())
    (images, ids), (holdout, holdout_ids) = (images_at(dataset, part) for part in places)
    batches = torch.stack(images), torch.stack(holdout)
    config, seed = fit.space.dictionary, fit.seed
    *_, last = steps = list(
        learn_dictionary(
            batches[0], config, seed=seed, name="cluster_0", holdout=batches[1], ids=ids, holdout_ids=holdout_ids
        )
    )
    learned = learning.load()
    assert learned.dictionary == last.dictionary
    assert list(learned.curve) == [step.row() for step in steps]
    assert (learned.images, learned.holdout) == (10, 2)


class KilledError(BaseException):
    """What no `except` of the package takes."""


def dying_before(patch, count: int) -> list[str]:
    """Storage that gives up before its next write or deletion once it has done so many; the list of them."""
    done = []

    def wrapped(what, original):
        def operation(self, path, *more):
            if len(done) == count:
                raise KilledError
            done.append(f"{what} {path}")
            return original(self, path, *more)

        return operation

    for what, method in (("write", "_publish"), ("delete", "delete")):
        patch.setattr(LocalFiles, method, wrapped(what, getattr(LocalFiles, method)))
    return done


@pytest.mark.parametrize("method", ["consensus", "online"])
def test_invariant_killed_between_any_two_writes_it_goes_on_to_the_same_bytes(prepared, iterations, method):
    fit, dataset = prepared(method=method, iterations=5)
    learning = learning_of(fit, dataset)
    with pytest.MonkeyPatch.context() as patch:
        operations = dying_before(patch, -1)
        learning.run(1, board_of())
    expected = files_of(learning)
    assert set(expected) == {"dictionary.json", "dictionary.safetensors"}
    # Two checkpoints of two files each, the deletion of both, and the dictionary.
    assert len(operations) == 2 * 2 + 2 * 2 + 2
    for count in range(len(operations)):
        for name in files_of(learning):
            learning._storage.delete(name)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
            dying_before(patch, count)
            learning.run(1, board_of())
        before = operations[:count]
        assert learning.done() == ("write dictionary.json" in before)
        if learning.done():
            continue
        iterations.clear()
        learning.run(1, board_of())
        # No more than the iterations since the last checkpoint are done again.
        assert iterations == [5 - 2 * sum(f"write checkpoint-0000{n}.json" in before for n in (2, 4))], before
        assert files_of(learning) == expected, before


def test_invariant_a_learning_that_is_stopped_goes_on_from_its_checkpoint(prepared, iterations):
    fit, dataset = prepared()
    learning, posted = learning_of(fit, dataset), []

    def stop_after_five(units):
        posted.append(units)
        if sum(posted) == 5:
            raise KilledError

    with pytest.raises(KilledError):
        learning.run(1, board_of(stop_after_five))
    assert sorted(files_of(learning)) == ["checkpoint-00004.json", "checkpoint-00004.safetensors"]
    iterations.clear()
    posted.clear()
    learning.run(1, board_of(posted.append))
    assert iterations == [3] and posted[0] == 4 and sum(posted) == 7
    assert [row["iteration"] for row in learning.load().curve] == list(range(1, 8))


def test_identity_a_learning_that_converges_counts_all_its_iterations(prepared, iterations):
    learning, posted = learning_of(*prepared(tolerance=1.0)), []
    learning.run(1, board_of(posted.append))
    assert iterations == [6] and sum(posted) == 7
    assert learning.load().curve[-1]["converged"]


@pytest.mark.parametrize("finished", [True, False])
def test_refuses_to_go_on_with_what_was_learned_otherwise(prepared, iterations, finished):
    fit, dataset = prepared(iterations=4)
    learning = learning_of(fit, dataset)

    def killed_in_the_fourth_iteration(units):
        if not finished and iterations == [3]:
            raise KilledError

    with nullcontext() if finished else pytest.raises(KilledError):
        learning.run(1, board_of(killed_in_the_fourth_iteration))
    assert learning.done() == finished and len(files_of(learning)) == 2
    for changed, difference in (
        (learning_of(fit, dataset, learned=LEARN[1:]), "'images'"),
        (learning_of(fit, dataset, method="admm"), r"expected \{'solver': 'auto'\}; got \{'solver': 'admm'\}"),
    ):
        with pytest.raises(RunIdentityError, match=difference):
            if not changed.done():
                changed.run(1, board_of())


@pytest.mark.parametrize("changed", [{"lmbda": 0.1}, {"filters": 5}, {"seed": 1}])
def test_invariant_another_recipe_has_a_place_of_its_own(prepared, iterations, changed):
    recipe = {"iterations": 1, "seed": 0}
    learning = learning_of(*prepared(**recipe))
    learning.run(1, board_of())
    before = files_of(learning)
    other = learning_of(*prepared(**{**recipe, **changed}))
    assert not other.done()
    other.run(1, board_of())
    assert other.done() and files_of(learning) == before and learning_of(*prepared(**recipe)).done()


def test_refuses_images_that_cannot_be_learned_from_by_name(prepared, iterations):
    learning = learning_of(*prepared(size=28))
    with pytest.raises(TensorError, match=r"id-\d+: images smaller than the filters; .* at least 28; got 24 x 24"):
        learning.run(1, board_of())


@pytest.mark.parametrize(
    ("slots", "actors", "missing", "at_once", "workers"),
    [(1, None, 3, 1, 1), (2, None, 3, 2, 1), (8, None, 3, 3, 2), (8, 4, 3, 3, 1), (8, None, 1, 1, 8), (9, 9, 3, 3, 3)],
)
def test_invariant_no_more_workers_at_once_than_the_cluster_carries_and_than_asked_for(
    prepared, iterations, monkeypatch, slots, actors, missing, at_once, workers
):
    fit, dataset = prepared(iterations=1, ray={"actors": actors})
    seen, learn_one = [], dictionaries._Learning.run

    def run_side_by_side(fits, at_once, board, progress):
        seen.append(at_once)
        for one in fits:
            one()

    def run(self, workers, *more):
        seen.append(workers)
        learn_one(self, workers, *more)

    monkeypatch.setattr("stl_ray.runtime.session.worker_slots", lambda **_: slots)
    monkeypatch.setattr(dictionaries, "make_board", board_of)
    monkeypatch.setattr(dictionaries, "run_side_by_side", run_side_by_side)
    monkeypatch.setattr(dictionaries._Learning, "run", run)
    for name in NAMES[missing:]:
        learn_one(learning_of(fit, dataset, name), 1, board_of())
    drawn = [DictionarySample(name, LEARN, HOLDOUT) for name in NAMES]
    ids = [f"id-{number}" for number in range(16)]
    # Learned by "auto" like those that are there, not by the instruction set that it stands for.
    monkeypatch.setattr(dictionaries, "with_solver", lambda experiment: experiment)
    everyone = partial(dictionaries.run, fit, drawn, dataset, ids)
    assert list(everyone()) == NAMES
    assert seen == [at_once, *[workers] * missing]
    everyone()
    assert len(seen) == 1 + missing


def test_invariant_an_image_that_was_set_aside_is_missing_from_its_sample_and_stops_nothing(
    prepared, iterations, monkeypatch
):
    fit, dataset = prepared(iterations=1)
    monkeypatch.setattr("stl_ray.runtime.session.worker_slots", lambda **_: 1)
    monkeypatch.setattr(dictionaries, "make_board", board_of)
    monkeypatch.setattr(dictionaries, "run_side_by_side", lambda fits, *_: [one() for one in fits])
    ids = [*(f"id-{number}" for number in range(16)), "lost", "lost too"]
    samples = [
        DictionarySample("universal", LEARN, HOLDOUT),
        DictionarySample("cluster_0", [*LEARN[:5], 16, *LEARN[5:]], [17, *HOLDOUT]),
    ]
    monkeypatch.setattr(dictionaries, "with_solver", lambda experiment: experiment)
    learned = dictionaries.run(fit, samples, dataset, ids)
    assert [(one.images, one.holdout) for one in learned.values()] == [(12, 4)] * 2
    whole, less = (json.loads(files_of(learning_of(fit, dataset, name))["dictionary.json"])["meta"] for name in learned)
    assert less["identity"]["images"] == whole["identity"]["images"]
    with pytest.raises(
        TrainingError, match=r"fit/samples-of-any-recipe: every image .* was set aside; .* expected images for empty"
    ):
        dictionaries.run(fit, [DictionarySample("empty", LEARN, [16, 17])], dataset, ids)


def test_refuses_more_workers_than_fit(prepared, iterations, monkeypatch):
    fit, dataset = prepared(iterations=1, ray={"actors": 3})
    monkeypatch.setattr("stl_ray.runtime.session.worker_slots", lambda **_: 2)
    monkeypatch.setattr(dictionaries, "make_board", board_of)
    drawn = [DictionarySample("universal", LEARN, HOLDOUT)]
    with pytest.raises(ConfigError, match=r"ray\.actors: the cluster cannot hold that many workers"):
        dictionaries.run(fit, drawn, dataset, [f"id-{number}" for number in range(16)])


def test_invariant_a_cluster_that_grows_is_asked_for_workers_that_do_not_fit_yet(monkeypatch):
    monkeypatch.setattr("stl_ray.runtime.session.ray.nodes", list)
    assert dictionaries.dictionary_workers(RayConfig(actors=5, autoscaling=True)) == 5
    with pytest.raises(ConfigError, match="expected at most 0 of 1 CPUs"):
        dictionaries.dictionary_workers(RayConfig(actors=5))


def test_identity_the_record_of_a_dictionary_has_no_times(prepared, iterations):
    fit, dataset = prepared(iterations=1)
    learning = learning_of(fit, dataset)
    learning.run(1, board_of())
    meta = json.loads(files_of(learning)["dictionary.json"])["meta"]
    assert set(meta) == {"lmbda", "norm", "curve", "identity"}
    assert set(meta["curve"][0]) == {"iteration", "objective", "holdout_objective", "sparsity", "psnr", "converged"}
    assert meta["identity"]["samples"] == dataset.digest

"""An upper bound on the attacks of the tiers and their checks: their work is counted, not done.

The functions of the job run here on stub pipelines that answer at once (`evaluation.cost_model`), so that the attacks
and checks of the experiment are counted, not a list of them. One tile of the real pipelines is timed.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import torch
from torch import Tensor

from stl_ray.config import Experiment
from stl_ray.defenses import Calibration
from stl_ray.defenses.base import gradient_of_view
from stl_ray.evaluation import UNDEFENDED, VERDICTS_SCHEMA, DefendedClassifier
from stl_ray.evaluation.batches import by_size
from stl_ray.evaluation.cost_model import (
    BACKWARD,
    CERTIFIED,
    COLD,
    DETECTED,
    DIFFERENTIATED,
    FORWARD,
    GREY,
    KINDS,
    PULLBACK,
    WARM,
    StubClassifier,
    StubDefense,
    StubDetector,
    Work,
)
from stl_ray.evaluation.sanity import PROBES_SCHEMA, probe
from stl_ray.images import quantize
from stl_ray.pipeline.batches import pixels_of
from stl_ray.pipeline.estimate.sampling import sample_all
from stl_ray.pipeline.estimate.shards import Progress, progress_of
from stl_ray.pipeline.estimate.steps import StepEstimate
from stl_ray.pipeline.evaluate.adaptive.checks import probe_shards, subject_in
from stl_ray.pipeline.evaluate.adaptive.context import Context
from stl_ray.pipeline.evaluate.adaptive.verdicts import TiersTask, verdict_shards, verdicts_of
from stl_ray.pipeline.inputs import with_solver
from stl_ray.runtime.concurrency import bind
from stl_ray.runtime.session import device_of
from stl_ray.runtime.shard_runner import ShardJob, actors_for
from stl_ray.store import Layout
from stl_ray.store.shards import table_to_bytes

# Arithmetic of the attacks themselves is timed on images no larger than this.
_SIDE = 64

_CALLS = 4

# Images of which the work is counted: a full tile of any network on a CPU.
_TILE = 16


@dataclass(frozen=True)
class Measured:
    """The cost of one image of one defense, in one part of the job.

    Attributes:
        seconds: of an actor.
        bytes: of what is stored.
        images: pipeline answers by kind of work.
    """

    seconds: float
    bytes: float
    images: Counter[str]


@dataclass(frozen=True)
class Tile:
    """The work of one part of the job on a tile behind one defense.

    Attributes:
        own: work of the defense's pipeline.
        substitute: work of the substitute's pipeline; none where there is no substitute.
        bytes: of what is stored of an image.
        seconds: of everything but the pipelines.
    """

    own: Work
    substitute: Work
    bytes: float
    seconds: float


def tier_steps(experiment: Experiment, stand_ins: Mapping[str, Calibration] | None = None) -> list[StepEstimate]:
    """A step, an upper bound, for each defense and part; none where no attack is configured. Needs a connected Ray.

    Args:
        experiment: of the defenses.
        stand_ins: by folder, calibrations in the place of those of detectors that are not made yet.

    Raises:
        IncompleteRunError: if a space, a classifier or the substitute is not there yet.
    """
    if not experiment.evaluate.tiers.attacks:
        return []
    experiment = with_solver(experiment)
    layout, steps = Layout(experiment.root), []
    for context in Context.all_of(experiment, "cpu"):
        block = context.block.name
        for part, shards, folder_of, names in (
            ("verdicts", verdict_shards(context), layout.verdicts, list(context.defended)),
            ("probes", probe_shards(context), layout.probes, [n for n in context.defended if n != UNDEFENDED]),
        ):
            folders = {name: folder_of(block, name) for name in names}
            done = {name: progress_of(experiment.root, folder, shards) for name, folder in folders.items()}
            left = [name for name in names if done[name].left]
            measured = dict(zip(left, _measured(experiment, block, left, part, stand_ins), strict=True))
            job = ShardJob("tiers", (), partial(TiersTask, experiment, {}))
            workers = actors_for(job, experiment.ray, len(shards) * len(names))
            steps += [_step(folders[name], done[name], measured.get(name), len(shards), workers) for name in names]
    return steps


def _step(folder: str, done: Progress, measured: Measured | None, shards: int, workers: int) -> StepEstimate:
    size, seconds, detail = done.bytes, 0.0, ""
    if measured is not None:
        size, seconds = size + measured.bytes * done.left, measured.seconds * done.left
        counts = measured.images
        detail = "for each image " + ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    return StepEstimate(
        folder, "images", done.rows, done.left, size, seconds, workers, shards, at_most=seconds > 0, detail=detail
    )


def _measured(
    experiment: Experiment, block: str, names: Sequence[str], part: str, stand_ins: Mapping[str, Calibration] | None
) -> list[Measured]:
    config = experiment.ray
    arguments = [(experiment, block, name, part, stand_ins) for name in names]
    cpus, gpus = config.cpus_per_actor, config.gpus_per_actor
    return sample_all(_measure, arguments, resources=config, cpus=cpus, gpus=gpus, item=part)


def _measure(
    experiment: Experiment, block: str, name: str, part: str, stand_ins: Mapping[str, Calibration] | None
) -> Measured:
    bind(experiment.ray.cpus_per_actor)
    device = device_of(experiment.ray)
    (context,) = (one for one in Context.all_of(experiment, device, stand_ins) if one.block.name == block)
    table = context.clean.head(_TILE)
    _, images = max(by_size(pixels_of(table), device), key=lambda batch: len(batch[0]))
    side = min(_SIDE, *images.shape[-2:])
    tile = counted(context, name, part, side)
    shares = [(context.defended[name], tile.own)]
    if context.substitute is not None:
        shares.append((context.substitute[name], tile.substitute))
    seconds = tile.seconds
    for defended, work in shares:
        costs = _costs(defended, images, work.images)
        seconds += sum(cost(work.calls[kind], work.images[kind]) for kind, cost in costs.items())
    total = tile.own.images + tile.substitute.images
    each = Counter({kind: round(count / _TILE) for kind, count in total.items()})
    return Measured(seconds / _TILE, tile.bytes, each)


def counted(context: Context, name: str, part: str, side: int) -> Tile:
    """One part of the job on a tile behind one defense, counted on stubs.

    Args:
        context: what is attacked.
        name: of the defense.
        part: "verdicts" or "probes".
        side: of the images, pixels.
    """
    classes, own, other = len(context.block.class_names), Work(), Work()
    defended = {name: _counted(context.defended[name], classes, own)}
    substitute = None
    if context.substitute is not None:
        substitute = {name: _counted(context.substitute[name], classes, other)}
    stand_in = replace(context, block=replace(context.block, defended=defended), substitute=substitute)
    images = quantize(torch.full((_TILE, 3, side, side), GREY))
    labels = torch.zeros(_TILE, dtype=torch.int64)
    ids = [str(number) for number in range(_TILE)]
    start = _clock(images)
    if part == "verdicts":
        rows, schema = verdicts_of(stand_in, name, images, labels, ids, {}), VERDICTS_SCHEMA
    else:
        rows, schema = probe(subject_in(stand_in, name), images, labels, ids, [False] * _TILE), PROBES_SCHEMA
    seconds = _clock(images) - start
    return Tile(own, other, len(table_to_bytes(pa.Table.from_pylist(rows, schema=schema))) / _TILE, seconds)


def _counted(defended: DefendedClassifier, classes: int, work: Work) -> DefendedClassifier:
    return replace(
        defended,
        defense=StubDefense(defended.defense, work),
        classifier=StubClassifier(classes, work),
        detector=None if defended.detector is None else StubDetector(work),
    )


def _costs(
    defended: DefendedClassifier, images: Tensor, kinds: Collection[str]
) -> dict[str, Callable[[int, int], float]]:
    """By kind, (calls, images) -> seconds: linear in both, from timings of one image and of a tile."""
    few, many = (_seconds(defended, batch, kinds) for batch in (images[:1], images))

    def cost(kind: str) -> Callable[[int, int], float]:
        each = max(many[kind] - few[kind], 0.0) / max(len(images) - 1, 1)
        once = max(few[kind] - each, 0.0)
        return lambda calls, count: once * calls + each * count

    return {kind: cost(kind) for kind in kinds}


def _seconds(defended: DefendedClassifier, images: Tensor, kinds: Collection[str]) -> dict[str, float]:
    """Seconds of a call of each kind on a batch of images."""
    defense, seeds = defended.defense, range(len(images))
    # Views that are alike cost the same.
    views, certified = (item.views[:: defense.repeats] for item in (defense, defense.certified()))
    network = defense.network(defended.classifier, seeds)
    linearised = [view.linearised(gradient_of_view(view, defended.strongest)) for view in views]
    pullbacks = [linearise(images, seeds)[1] for linearise in linearised]
    moved = quantize(images + 0.01 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images))
    calls: dict[str, Callable[[], object]] = {
        FORWARD: lambda: network.logits(images),
        BACKWARD: lambda: network.logits_and_vjp(images, torch.ones_like),
        COLD: lambda: [view.purify(images, seeds=seeds) for view in views],
        WARM: lambda: [linearise(moved, seeds) for linearise in linearised],
        PULLBACK: lambda: [pullback(images) for pullback in pullbacks],
        CERTIFIED: lambda: [view.purify(images, seeds=seeds) for view in certified],
    }
    if detector := defended.detector:
        calls[DETECTED] = lambda: detector.scores(images, images)
        calls[DIFFERENTIATED] = lambda: detector.scores_and_vjp(images, images, torch.ones_like)
    seconds = {kind: _timed(call, images) for kind, call in calls.items() if kind in kinds}
    for kind in seconds.keys() & {COLD, WARM, PULLBACK, CERTIFIED}:
        seconds[kind] /= len(views)
    if BACKWARD in seconds:
        # Every product begins with a forward pass, which is counted too.
        seconds[BACKWARD] = max(seconds[BACKWARD] - seconds[FORWARD], 0.0)
    return seconds


def _timed(call: Callable[[], object], images: Tensor) -> float:
    """Seconds of the fastest of a few calls."""
    seconds = []
    for _ in range(_CALLS):
        start = _clock(images)
        call()
        seconds.append(_clock(images) - start)
    return min(seconds)


def _clock(images: Tensor) -> float:
    """Seconds; on CPUs those of this process alone, since other load there says nothing of the job's time."""
    if images.is_cuda:
        torch.cuda.synchronize()
        return time.monotonic()
    return time.process_time() / torch.get_num_threads()

"""What the attacks of the tiers and their checks would take at most: their work is counted, not done.

The functions that the job runs are run here on pipelines that answer at once (`evaluation.cost_model`), so that what is
counted are the attacks and checks of the experiment and no list of them. One tile of the real pipelines is timed.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import torch
from torch import Tensor

from stl_ray.config import Experiment
from stl_ray.evaluation import UNDEFENDED, VERDICTS_SCHEMA
from stl_ray.evaluation.cost_model import (
    BACKWARD,
    CERTIFIED,
    COLD,
    FORWARD,
    GREY,
    KINDS,
    PULLBACK,
    WARM,
    StubClassifier,
    StubDefense,
    Work,
)
from stl_ray.evaluation.sanity import PROBES_SCHEMA, probe
from stl_ray.images import quantize
from stl_ray.pipeline.batches import by_size, class_names, pixels_of
from stl_ray.pipeline.defended import DefendedClassifier
from stl_ray.pipeline.estimate.sampling import sample_all
from stl_ray.pipeline.estimate.shards import Progress, progress_of
from stl_ray.pipeline.estimate.steps import StepEstimate
from stl_ray.pipeline.evaluate.adaptive.checks import probe_shards, subject_of
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
    """One image of one defense, in one part of the job.

    Attributes:
        seconds: of an actor.
        bytes: of what is stored.
        images: pipeline answers by kind of work.
    """

    seconds: float
    bytes: float
    images: Counter[str]


def tier_steps(experiment: Experiment) -> list[StepEstimate]:
    """A step for each defense and part, at most; none where no attack is configured. Needs a Ray that is connected.

    Raises:
        IncompleteRunError: if a space, a classifier or the substitute is not there yet.
    """
    if not experiment.evaluate.tiers.attacks:
        return []
    experiment = with_solver(experiment)
    context, layout = Context.of(experiment, "cpu"), Layout(experiment.root)
    steps = []
    for part, shards, names in (
        ("verdicts", verdict_shards(context), list(context.defended)),
        ("probes", probe_shards(context), [name for name in context.defended if name != UNDEFENDED]),
    ):
        folders = {name: layout.verdicts(name) if part == "verdicts" else layout.probes(name) for name in names}
        done = {name: progress_of(experiment.root, folder, shards) for name, folder in folders.items()}
        left = [name for name in names if done[name].left]
        found = dict(zip(left, _measured(experiment, left, part), strict=True))
        job = ShardJob("tiers", (), partial(TiersTask, experiment, {}))
        workers = actors_for(job, experiment.ray, len(shards) * len(names))
        steps += [_step(folders[name], done[name], found.get(name), len(shards), workers) for name in names]
    return steps


def _step(folder: str, done: Progress, found: Measured | None, shards: int, workers: int) -> StepEstimate:
    size, seconds, detail = done.bytes, 0.0, ""
    if found is not None:
        size, seconds = size + found.bytes * done.left, found.seconds * done.left
        detail = "for each image " + ", ".join(f"{found.images[kind]} {kind}" for kind in KINDS if found.images[kind])
    return StepEstimate(
        folder, "images", done.rows, done.left, size, seconds, workers, shards, at_most=seconds > 0, detail=detail
    )


def _measured(experiment: Experiment, names: Sequence[str], part: str) -> list[Measured]:
    config = experiment.ray
    arguments = [(experiment, name, part) for name in names]
    return sample_all(_measure, arguments, cpus=config.cpus_per_actor, gpus=config.gpus_per_actor, item=part)


def _measure(experiment: Experiment, name: str, part: str) -> Measured:
    bind(experiment.ray.cpus_per_actor)
    device = device_of(experiment.ray)
    context = Context.of(experiment, device)
    table = context.clean.read(context.clean.parts[0]).slice(0, _TILE)
    _, images = max(by_size(pixels_of(table), device), key=lambda batch: len(batch[0]))
    side = min(_SIDE, *images.shape[-2:])
    work, bytes_per_image, seconds = counted(context, name, part, side)
    for whose, found in work.items():
        defended = context.defended[name] if whose == name else (context.substitute or {})[name]
        costs = _costs(defended, images, found.images)
        seconds += sum(cost(found.calls[kind], found.images[kind]) for kind, cost in costs.items())
    total = sum((found.images for found in work.values()), Counter[str]())
    each = Counter({kind: round(count / _TILE) for kind, count in total.items()})
    return Measured(seconds / _TILE, bytes_per_image, each)


def counted(context: Context, name: str, part: str, side: int) -> tuple[dict[str, Work], float, float]:
    """One part of the job on a tile behind one defense: the work by whose pipeline it is, bytes of an image, seconds.

    Args:
        context: what is attacked.
        name: of the defense.
        part: "verdicts" or "probes".
        side: of the images, pixels.
    """
    work, classes = {name: Work()}, len(class_names(context.clean))
    defended = {name: _counted(context.defended[name], classes, work[name])}
    substitute = None
    if context.substitute is not None:
        work["substitute"] = Work()
        substitute = {name: _counted(context.substitute[name], classes, work["substitute"])}
    stand_in = replace(context, defended=defended, substitute=substitute)
    images = quantize(torch.full((_TILE, 3, side, side), GREY))
    labels = torch.zeros(_TILE, dtype=torch.int64)
    ids = [str(number) for number in range(_TILE)]
    start = _clock(images)
    if part == "verdicts":
        rows, schema = verdicts_of(stand_in, name, images, labels, ids, {}), VERDICTS_SCHEMA
    else:
        rows, schema = probe(subject_of(stand_in, name), images, labels, ids, [False] * _TILE), PROBES_SCHEMA
    seconds = _clock(images) - start
    return work, len(table_to_bytes(pa.Table.from_pylist(rows, schema=schema))) / _TILE, seconds


def _counted(defended: DefendedClassifier, classes: int, work: Work) -> DefendedClassifier:
    return replace(defended, defense=StubDefense(defended.defense, work), classifier=StubClassifier(classes, work))


def _costs(
    defended: DefendedClassifier, images: Tensor, kinds: Collection[str]
) -> dict[str, Callable[[int, int], float]]:
    """By kind, (calls, images) -> seconds: so much for each call and so much for each image, from one image and a tile."""
    few, many = (_seconds(defended, batch, kinds) for batch in (images[:1], images))

    def cost(kind: str) -> Callable[[int, int], float]:
        each = max(many[kind] - few[kind], 0.0) / max(len(images) - 1, 1)
        once = max(few[kind] - each, 0.0)
        return lambda calls, count: once * calls + each * count

    return {kind: cost(kind) for kind in kinds}


def _seconds(defended: DefendedClassifier, images: Tensor, kinds: Collection[str]) -> dict[str, float]:
    """What a call of each kind takes on a batch of images."""
    defense, seeds = defended.defense, range(len(images))
    certified = defense.certified()
    linearise = defense.linearised(defended.strongest)
    _, pullback = linearise(images, seeds)
    moved = quantize(images + 0.01 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images))
    calls: dict[str, Callable[[], object]] = {
        FORWARD: lambda: defended.classifier.logits(images),
        BACKWARD: lambda: defended.classifier.logits_and_vjp(images, torch.ones_like),
        COLD: lambda: defense.purify(images, seeds=seeds),
        WARM: lambda: linearise(moved, seeds),
        PULLBACK: lambda: pullback(images),
        CERTIFIED: lambda: certified.purify(images, seeds=seeds),
    }
    seconds = {kind: _timed(call, images) for kind, call in calls.items() if kind in kinds}
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
    """Seconds; on CPUs those that this process had: what else runs there now says nothing of the job's own time."""
    if images.is_cuda:
        torch.cuda.synchronize()
        return time.monotonic()
    return time.process_time() / torch.get_num_threads()

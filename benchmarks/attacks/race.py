"""Every contestant on the same images, each in a process of its own, in turns.

What one leaves of the allocator's state speeds or slows another, hence the processes.
"""

import io
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from benchmarks.attacks.peers import Match, matches
from benchmarks.common.networks import cifar10_network
from benchmarks.common.progress import Progress
from stl_ray.attacks import Budget
from stl_ray.images import to_tensor
from stl_ray.metrics import l2_norm, linf
from stl_ray.models import Classifier, predict
from stl_ray.runtime.concurrency import bind

OURS = "stl-ray"
TOLERANCE = 1.03
"""Most that a minimum-norm attack's mean L2 may be over the least of all for the attack to count as correct."""


@dataclass(frozen=True)
class Entry:
    """What one contestant did.

    Attributes:
        seconds: CPU time of every round.
        success: share of images that the network is wrong on, mean of the rounds.
        l2: mean ||x' - x|| of those.
        over: largest share by which an image is over the budget.
    """

    seconds: list[float]
    success: float
    l2: float
    over: float


def load(data: Path, count: int, right: bool = True) -> tuple[Classifier, Tensor, Tensor]:
    """The network, and the first test images: all of them, or those that it classifies rightly."""
    classifier = cifar10_network("resnet20", data)
    (path,) = (data / "cifar10").glob("test*.parquet")
    table = pq.read_table(path).slice(0, 2 * count)
    encoded = [image["bytes"] for image in table.column("image").to_pylist()]
    images = to_tensor([np.array(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded])
    labels = torch.tensor(table.column("label").to_pylist())
    if not right:
        return classifier, images[:count], labels[:count]
    rows = (predict(classifier, images) == labels).nonzero()[:count, 0]
    return classifier, images[rows], labels[rows]


def race(match: Match, arguments: tuple[Path, int], rounds: int, progress: Progress) -> dict[str, Entry]:
    """Every contestant on the images, each in a process of its own, in turns; the round is the seed."""
    start = multiprocessing.get_context("spawn")
    seconds: dict[str, list[float]] = {name: [] for name in match.contestants}
    found: dict[str, list[Tensor]] = {name: [] for name in match.contestants}
    names = list(match.contestants)
    with ExitStack() as stack:
        at_work = {
            name: stack.enter_context(
                ProcessPoolExecutor(1, start, initializer=_prepare, initargs=(*arguments, match.name, name))
            )
            for name in names
        }
        for name in names:
            progress.tell(f"{match.name}: {name} starts", now=True)
            at_work[name].submit(_warm_up).result()
        for turn in range(rounds):
            for place in range(len(names)):
                name = names[(turn + place) % len(names)]
                progress.tell(f"{match.name}: round {turn + 1} of {rounds}, {name}", now=True)
                spent, adversarial = at_work[name].submit(_attack, turn).result()
                seconds[name].append(spent)
                found[name].append(torch.from_numpy(adversarial))
    classifier, images, labels = load(*arguments)
    return {name: _entry(match.budget, classifier, images, labels, found[name], seconds[name]) for name in names}


_here: dict[str, Any] = {}
"""What a contestant's process works on."""


def _prepare(data: Path, count: int, match: str, name: str) -> None:
    bind(1)
    classifier, images, labels = load(data, count)
    (run,) = [item.contestants[name] for item in matches(classifier) if item.name == match]
    _here.update(classifier=classifier, images=images, labels=labels, run=run, name=name)


def _warm_up() -> None:
    _here["run"](_here["images"][:2].clone(), _here["labels"][:2].clone(), 0)


def _attack(seed: int) -> tuple[float, np.ndarray]:
    """CPU seconds, and what was found."""
    start = time.process_time()
    found = _here["run"](_here["images"].clone(), _here["labels"].clone(), seed)
    if _here["name"] != OURS:
        predict(_here["classifier"], found.float())
    return time.process_time() - start, found.float().numpy()


def _entry(
    budget: Budget, classifier: Classifier, images: Tensor, labels: Tensor, found: list[Tensor], seconds: list[float]
) -> Entry:
    success, norms, over = [], [], 0.0
    for batch in found:
        change = batch.double() - images.double()
        distance = l2_norm(change) if budget.norm == "l2" else linf(batch.double(), images.double())
        wrong = predict(classifier, batch) != labels
        success.append(float(wrong.float().mean()))
        norms += l2_norm(change)[wrong].tolist()
        over = max(over, float((distance / budget.size - 1).max()))
    return Entry(seconds, statistics.mean(success), statistics.mean(norms) if norms else float("nan"), over)


def correct(match: Match, entries: dict[str, Entry], images: int) -> set[str]:
    """The contestants whose times may be compared."""
    best = max(entry.success for entry in entries.values())
    able = {n for n, e in entries.items() if e.over < 1e-5 and e.success >= best - 1.5 / images}
    if match.minimum_norm:
        least = min(entries[name].l2 for name in able)
        able = {name for name in able if entries[name].l2 <= TOLERANCE * least}
    return able

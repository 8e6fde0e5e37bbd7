"""How fast exact routing is on this CPU, beside scikit-learn, and what inexact routing would get wrong.

    python -m benchmarks.strata.routing_speed --output benchmarks/results/routing-cpu.md

Run it from the repository's root on an idle machine; `--help` says the rest.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median
from typing import Any

import torch
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.common.command import command_parser
from benchmarks.common.pages import command_line, processor, publish, table, three_digits
from benchmarks.common.progress import Progress
from stl_ray.runtime.concurrency import bind
from stl_ray.space.neighbours import Neighbours, squared_distances
from stl_ray.space.router import majority

WIDTH, NEIGHBOURS, CLUSTERS, GROUPS = 128, 15, 10, 1000
"""PCA coordinates, k of the vote, clusters that are voted for, groups that points are drawn around."""

ROUNDS = 5

_EXAMPLES = """
what it does, for every number of references, on one thread:
  speed       ours and scikit-learn's brute-force search take turns with the same queries, in float32
  looked at   the share of queries whose certificate failed, so that further references were looked at
  again
  votes       how often the vote differs from that of a float64 search through all references

examples:
  python -m benchmarks.strata.routing_speed --quick
      half a minute's look at few references
  python -m benchmarks.strata.routing_speed --output benchmarks/results/routing-cpu.md
      the whole of it, about three minutes; leave the machine alone meanwhile (the column "Busy" tells)
"""


@dataclass
class Speed:
    """Queries per second of CPU time, and CPU time over wall time; one entry for each round."""

    rates: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    def add(self, count: int, work: Callable[[], object]) -> None:
        """Time one round of `count` queries."""
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.rates.append(count / cpu)
        self.busy.append(cpu / wall)


@dataclass
class Result:
    """Everything measured at one number of references; shares are of `queries`, wrong ones of `checked`."""

    references: int
    queries: int
    checked: int
    preparation: float
    ours: Speed
    peer: Speed
    again: float
    wrong: float
    peer_differs: float
    half_differs: dict[str, float]


class Counted(Neighbours):
    """Counts the queries whose certificate failed."""

    again = 0

    def _search(
        self, query: Tensor, centred: Tensor, limit: Tensor, k: int, exclude: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        Counted.again += 1
        return super()._search(query, centred, limit, k, exclude)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    references = options.references or ([2_000, 20_000] if options.quick else [50_000, 200_000, 1_280_000])
    queries = options.queries or (64 if options.quick else 512)
    checked = min(queries, 16 if options.quick else 32)
    bind(1)
    progress, start = Progress(), time.monotonic()
    with threadpool_limits(1):
        results = [measure(count, queries, checked, progress) for count in references]
    page = report(results, command_line("benchmarks.strata.routing_speed", given), time.monotonic() - start)
    publish(page, options.output)
    return 0


def measure(count: int, queries: int, checked: int, progress: Progress) -> Result:
    """At `count` references."""
    progress.tell(f"{count} references: drawing", now=True)
    points = draw(count + queries)
    references, asked = points[:count], points[count:]
    labels = Neighbours(references[:: count // CLUSTERS][:CLUSTERS].clone()).nearest(references, 1)[0][:, 0]
    index = Counted(references)
    began = time.perf_counter()
    index.nearest(asked[:1], NEIGHBOURS)
    preparation = time.perf_counter() - began
    peer = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(references.numpy())
    speeds = (Speed(), Speed())
    found: dict[str, tuple[Any, Any]] = {}
    Counted.again = 0
    for turn in range(ROUNDS):
        progress.tell(f"{count} references: round {turn + 1} of {ROUNDS}", now=True)
        speeds[0].add(queries, lambda: found.update(ours=index.nearest(asked, NEIGHBOURS)))
        speeds[1].add(queries, lambda: found.update(peer=peer.kneighbors(asked.numpy())))

    def vote(indices: Tensor, distances: Tensor) -> Tensor:
        return majority(distances.double(), labels[indices], CLUSTERS)

    votes = vote(*found["ours"])
    progress.tell(f"{count} references: votes", now=True)
    expected = torch.cat([vote(*_direct(references, query)) for query in asked[:checked]])
    peer_votes = vote(torch.from_numpy(found["peer"][1]), torch.from_numpy(found["peer"][0]))
    halves = {str(t).removeprefix("torch."): _half(references, asked, t) for t in (torch.float16, torch.bfloat16)}
    return Result(
        references=count,
        queries=queries,
        checked=checked,
        preparation=preparation,
        ours=speeds[0],
        peer=speeds[1],
        again=Counted.again / ROUNDS / queries,
        wrong=_share(votes[:checked], expected),
        peer_differs=_share(peer_votes, votes),
        half_differs={name: _share(vote(*nearest), votes) for name, nearest in halves.items()},
    )


def draw(count: int) -> Tensor:
    """Points (count, WIDTH) float32 like PCA coordinates: variances fall as 1/i, half of each within random groups."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.arange(1, WIDTH + 1).float().rsqrt()
    centres = torch.randn((GROUPS, WIDTH), generator=generator) * scale
    group = torch.randint(GROUPS, (count,), generator=generator)
    return centres[group] + torch.randn((count, WIDTH), generator=generator) * scale


def _direct(references: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    squares = torch.cat([squared_distances(query, block) for block in torch.split(references, 2**16)])
    squares, indices = squares.sort(stable=True)
    return indices[None, :NEIGHBOURS], squares[None, :NEIGHBOURS].sqrt()


def _half(references: Tensor, queries: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Nearest neighbours by |r|^2 - 2 q.r of points stored in half precision and multiplied in float32, not ranked again."""
    rounded, asked = references.to(kind).float(), queries.to(kind).float()
    norms, found = rounded.square().sum(1), []
    for block in torch.split(asked, 64):
        scores, indices = torch.addmm(norms, block, rounded.T, alpha=-2).topk(NEIGHBOURS, largest=False)
        found.append((indices, (scores + block.square().sum(1, keepdim=True)).clamp(min=0).sqrt()))
    indices, distances = (torch.cat(parts) for parts in zip(*found, strict=True))
    return indices, distances


def _share(votes: Tensor, expected: Tensor) -> float:
    return float((votes != expected).float().mean())


def report(results: Sequence[Result], command: str, seconds: float) -> str:
    """The whole page."""
    versions = {name: version(name) for name in ("stl-ray", "torch", "scikit-learn", "numpy")}
    speed = [
        "References",
        "Ours, images/s",
        "scikit-learn, images/s",
        "Ratio",
        "Prepared in, s",
        "Busy",
        "Looked again",
    ]
    votes = ["References", "Ours, wrong", "scikit-learn", *results[0].half_differs]
    blocks = [
        "# Routing on a CPU, beside scikit-learn",
        f"`{command}`",
        f"{processor()}; {', '.join(f'{name} {number}' for name, number in versions.items())}. One process, one thread; took "
        f"{seconds:.0f} s. Synthetic latents, for their number: {WIDTH} coordinates whose variances fall as 1/i, half of "
        f"each between {GROUPS} random groups and half within; {results[0].queries} queries drawn alike. "
        f"k = {NEIGHBOURS}; {CLUSTERS} clusters, by the nearest of as many references.",
        "## Speed",
        "Queries of one batch per second of CPU time, from PCA coordinates to neighbours; medians of "
        f"{ROUNDS} rounds in turns with `NearestNeighbors(algorithm='brute')`, both float32. Prepared: centring, once for a "
        "process, with the first query. Busy is CPU time over wall time, ours / scikit-learn's: below 1.00 something else "
        "ran on the core, which slows both down. Looked again: queries whose certificate failed at first.",
        table(
            speed,
            (
                (
                    f"{r.references}", three_digits(median(r.ours.rates)), three_digits(median(r.peer.rates)),
                    f"{median(r.ours.rates) / median(r.peer.rates):.1f}", f"{r.preparation:.2f}",
                    f"{median(r.ours.busy):.2f} / {median(r.peer.busy):.2f}", f"{r.again:.2%}",
                )
                for r in results
            ),
        ),
        "## Votes",
        f"Ours against a float64 search through all references (the first {results[0].checked} queries); the others against "
        "ours, all queries: scikit-learn's neighbours, and points stored in half precision and not ranked again.",
        table(
            votes,
            (
                (
                    f"{r.references}", f"{r.wrong * r.checked:.0f} of {r.checked}",
                    *(f"{share * r.queries:.0f} of {r.queries}" for share in (r.peer_differs, *r.half_differs.values())),
                )
                for r in results
            ),
        ),
    ]  # fmt: skip
    return "\n\n".join(blocks) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("benchmarks.strata.routing_speed", __doc__, _EXAMPLES)
    parser.add_argument("--quick", action="store_true", help="2,000 and 20,000 references, unless said")
    parser.add_argument(
        "--references", type=int, nargs="+", metavar="N", help="numbers of references; default 50000 200000 1280000"
    )
    parser.add_argument("--queries", type=int, metavar="N", help="of one batch; default 512, or 64 with --quick")
    return parser


if __name__ == "__main__":
    sys.exit(main())

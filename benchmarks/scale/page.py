"""What was measured at the size of ImageNet, as Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.common.pages import measured_on, table, three_digits
from benchmarks.scale.driver import Driven
from benchmarks.scale.phases import Phase
from benchmarks.scale.protocol import CLASSES, IMAGENET, PHOTOGRAPH, SHARD, TINY, WORKERS
from stl_ray.images.readers.fetching import LISTINGS
from stl_ray.store.runs import READERS

PACKAGES = ("ray", "torch", "numpy", "pyarrow", "boto3")


@dataclass
class Protocol:
    """A run of so many images.

    Attributes:
        images: in the run.
        phases: of the drivers and of verify.
        work: seconds of the workers.
        photographs: images of a photograph's size, and verify of them.
    """

    images: int
    phases: Sequence[Phase]
    work: float
    photographs: tuple[int, Phase] | None = None

    @property
    def shards(self) -> int:
        """In the run."""
        return -(-self.images // SHARD)


@dataclass(frozen=True)
class Planned:
    """A plan over so many images of a source, `where` it lies, and a bare listing of it."""

    where: str
    images: int
    plan: Phase
    bare: Phase


@dataclass(frozen=True)
class Runner:
    """Jobs of the runner over so many shards, and seconds of the bare loop over them."""

    shards: int
    bare: float
    driven: Sequence[Driven]


@dataclass(frozen=True)
class Result:
    """Everything."""

    disk: Sequence[Protocol]
    bucket: Sequence[Protocol]
    planned: Sequence[Planned]
    runner: Runner | None


def report(result: Result, command: str, revision: str, seconds: float) -> str:
    """The whole page."""
    blocks = [
        "# A run of the size of ImageNet",
        f"    {command}",
        f"{measured_on(seconds, PACKAGES)} Commit {revision}.",
        _SETTING,
        "## The protocol on a disk",
        _PROTOCOL,
        *_protocol(result.disk),
        "## The protocol in a bucket",
        *(_protocol(result.bucket) if result.bucket else ["Ceph is not installed here, or was not asked for."]),
        "## The runner",
        *(_runner(result.runner) if result.runner else ["Was not asked for."]),
        "## Plans of ingest",
        _SOURCES,
        table(_SOURCES_HEADER, _source_rows(result.planned)),
    ]
    return "\n\n".join(blocks) + "\n"


_SETTING = (
    f"Shards of {SHARD} images of {TINY} random bytes and {CLASSES} classes; nothing is computed. What is measured is the "
    "package's own protocol, in processes of their own. Memory is resident memory as the kernel counts it, in MB above "
    "what the process had before: at its highest / still there afterwards. Bytes for each further image are of the "
    "highest, from the size before the last to the last: what a driver of twice the size would need more."
)

_PROTOCOL = (
    f"The first driver plans and dies; {WORKERS} workers with three shards in hand each make all of it by what actors "
    "call; the next driver plans again, compares, finds nothing to do and finishes; then the next stage is planned, and "
    "another process verifies. The plan lists every image's name, as that of a folder does."
)


def _protocol(runs: Sequence[Protocol]) -> list[str]:
    sizes = [f"{run.images:,}" for run in runs]
    remote = any(phase.requests for phase in runs[-1].phases)
    header = ["Case", *(f"s, {size}" for size in sizes), *(f"MB, {size}" for size in sizes), "Bytes / further image"]
    blocks = [
        table([*header, "Requests"] if remote else header, _protocol_rows(runs, remote)),
        "Workers, seconds for all shards: "
        + ", ".join(f"{three_digits(run.work)} ({run.work / run.shards * 1e3:.0f} ms a shard)" for run in runs)
        + ".",
    ]
    if remote:
        blocks.append(f"Requests are of the last size, {READERS} at a time for receipts and ids.")
    if runs[-1].photographs is not None:
        images, phase = runs[-1].photographs
        rate = images * PHOTOGRAPH / phase.seconds / 1e6
        blocks.append(
            f"`verify` reads everything: of {images:,} images of {PHOTOGRAPH // 1000} KB it recounts {rate:.0f} MB/s, with "
            f"{_megabytes(phase)} MB."
        )
    return blocks


def _protocol_rows(runs: Sequence[Protocol], remote: bool) -> Iterable[Sequence[str]]:
    for number, last in enumerate(runs[-1].phases):
        phases = [run.phases[number] for run in runs]
        yield [
            last.name,
            *(f"{phase.seconds:.2f}" for phase in phases),
            *map(_megabytes, phases),
            slope([(run.images, phase) for run, phase in zip(runs, phases, strict=True)]),
            *([f"{last.requests}"] if remote else []),
        ]


def _runner(runner: Runner) -> list[str]:
    first, last = runner.driven[0], runner.driven[-1]
    further = (last.seconds - first.seconds) / (last.shards - first.shards)
    memory = (last.quarters[2] - first.quarters[2]) / (last.shards - first.shards)
    rows = [
        (
            f"{driven.defenses}", f"{driven.shards}", three_digits(driven.seconds),
            f"{driven.seconds / driven.shards * 1e3:.0f}", f"{driven.start / 1e6:.0f}",
            " / ".join(f"{kept / 1e6:.0f}" for kept in driven.quarters), f"{driven.peak / 1e6:.0f}",
        )
        for driven in runner.driven
    ]  # fmt: skip
    bare = runner.bare / runner.shards
    return [
        "`run_shards` with defenses that do nothing, one actor of one CPU on a local Ray: one row of Ray Data for each "
        "shard and defense. Memory is the driver's: with Ray and torch loaded and connected, and above that after each "
        "quarter of the time, and at its highest.",
        table(("Defenses", "Shards", "s", "ms a shard", "MB before", "MB, by quarters", "MB, highest"), rows),
        f"A further shard takes {further * 1e3:.0f} ms, and {memory / 1e3:.1f} KB of the driver at three quarters of the "
        f"time. A bare loop over the same shards in one process, with as many in hand, takes {bare * 1e3:.0f} ms for each: "
        f"{bare / further:.2f} of it. A shard that takes its actor a minute to compute loses "
        f"{further / 60:.2%} of its time so.",
    ]


_SOURCES = (
    "From the listing to plan.parquet, as `ingest` does it at its start and again when it goes on. Bare is the least that "
    "any plan does, by what lies below ours: the names and sizes of all files, the headers of all tars by Python's tarfile "
    f"(in a bucket all their bytes, {LISTINGS} at a time), the id column of all Parquet files; and nothing is kept. On a "
    f"disk the images are empty; in the bucket those in tars have {PHOTOGRAPH // 1000} KB. The last column is in proportion."
)
_SOURCES_HEADER = (
    "Case", "Images", "s", "Images/s", "Bare / it", "MB", "Bytes / further image", "Requests", "Of 1,281,167, s",
)  # fmt: skip


def _source_rows(planned: Sequence[Planned]) -> Iterable[Sequence[str]]:
    for number, one in enumerate(planned):
        before = planned[number - 1] if number else one
        same = (before.where, before.plan.name) == (one.where, one.plan.name)
        rate = one.images / one.plan.seconds
        yield (
            f"{one.plan.name}, {one.where}", f"{one.images:,}", three_digits(one.plan.seconds), f"{rate:.0f}",
            f"{one.bare.seconds / one.plan.seconds:.2f}", _megabytes(one.plan),
            slope([(before.images, before.plan), (one.images, one.plan)]) if same else "",
            f"{one.plan.requests}" if one.plan.requests else "", "" if one.images == IMAGENET else f"{IMAGENET / rate:.0f}",
        )  # fmt: skip


def _megabytes(phase: Phase) -> str:
    return f"{phase.peak / 1e6:.0f} / {phase.kept / 1e6:.0f}"


def slope(points: Sequence[tuple[int, Phase]]) -> str:
    """Bytes of the peak for each further image, between the last two points."""
    if len(points) < 2 or points[-1][0] == points[-2][0]:
        return ""
    (fewer, before), (more, after) = points[-2:]
    return f"{(after.peak - before.peak) / (more - fewer):.0f}"

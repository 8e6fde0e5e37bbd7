"""The runner's measurements as Markdown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.common.pages import measured_on, table, three_digits
from benchmarks.runner.audit import Audit
from benchmarks.runner.rates import Timeline

AIM = 0.95

BARE, OURS, PEER = "bare loop", "stl-ray project", "Ray Data"
NAMES = (BARE, OURS, PEER)

WORKERS = 2

PACKAGES = ("ray", "torch", "numpy", "pyarrow", "pillow")


@dataclass(frozen=True)
class Round:
    """All contestants once, one after the other.

    Attributes:
        runs: by contestant and number of workers; of the peer there is one worker.
        waits: of our actors, the share of the time in which the solver had nothing to do, by their number.
        files: that the peer wrote.
    """

    runs: Mapping[tuple[str, int], Timeline]
    waits: Mapping[int, float]
    files: int


@dataclass(frozen=True)
class Result:
    """Everything measured at one size.

    Attributes:
        size: pixels.
        shards: of the input.
        images: in each.
        dictionary: in words.
        rounds: what was measured, again and again.
    """

    size: int
    shards: int
    images: int
    dictionary: str
    rounds: Sequence[Round]


@dataclass(frozen=True)
class Audits:
    """Rows after disturbances.

    Attributes:
        size: pixels.
        shards: of the input.
        images: in all of them.
        cases: ours and the peer's, by what was done to them.
    """

    size: int
    shards: int
    images: int
    cases: Mapping[str, tuple[Audit, Audit]]


def report(results: Sequence[Result], audits: Audits | None, command: str, commit: str, seconds: float) -> str:
    """The whole page."""
    blocks = [
        "# The shard runner on one machine, beside a bare loop and Ray Data",
        f"    {command}",
        f"{measured_on(seconds, PACKAGES)} Commit {commit}.",
        _setting(results),
        "## One worker",
        _ONE,
        table(_ONE_HEADER, (row for result in results for row in _one_rows(result))),
        "## The whole job",
        _WHOLE,
        table(_WHOLE_HEADER, (row for result in results for row in _whole_rows(result))),
        f"## {WORKERS} workers",
        _SCALING,
        table(_SCALING_HEADER, (row for result in results for row in _scaling_rows(result))),
    ]
    if audits is not None:
        blocks += ["## Rows", _rows_note(audits), table(_ROWS_HEADER, _rows_rows(audits))]
    return "\n\n".join(blocks) + "\n"


def ratios(
    result: Result, name: str, workers: int, of: tuple[str, int], what: Callable[[Timeline], float]
) -> list[float]:
    """What one contestant has over another, in every round."""
    return [what(found.runs[name, workers]) / what(found.runs[of]) for found in result.rounds]


def _setting(results: Sequence[Result]) -> str:
    sizes = "; ".join(
        f"{r.size} px: {r.shards} shards of {r.images} images, dictionary: {r.dictionary}" for r in results
    )
    rounds = len(results[0].rounds)
    return (
        f"Images: crops of scikit-image's photographs, stored as PNG. {sizes}. One thread for each worker, one local Ray, "
        f"local disk. {rounds} rounds, in each of which all contestants take one turn; every ratio is of one round, given "
        "as the median of the rounds (least to most)."
    )


_ONE = (
    f"**{BARE}**: one process that reads a file, decodes, projects, rounds, encodes and writes a file, and no more. "
    f"**{OURS}**: the shard runner with one actor. **{PEER}**: `read_parquet(...).map_batches(...).write_parquet(...)`, "
    "with the bare loop's function in one actor. Steady: images per second from a worker's first shard to the last one "
    "after which it had as many in hand (the bare loop: to its last; Ray Data: of batches, by the return of the "
    "function, before they are written). That leaves out the start of Ray and of the actors, and the end. Waits: share "
    "of the time, from the first to the last turn, in which the actor's thread had nothing to decode, solve or encode, for "
    "what it has in hand was being read or published. Cores: how many the worker's "
    "process used, and with all processes of Ray and the driver. CPU: "
    "CPU time of the bare worker for an image over that of this one, which other work on the machine disturbs less. Busy: "
    "cores of the machine that were busy, by whomever."
)
_ONE_HEADER = (
    "Size", "Method", "Steady images/s", "/ bare loop", "Aim", "Waits", "Cores", "With Ray", "CPU", "Busy",
)  # fmt: skip


def _one_rows(result: Result) -> Iterable[Sequence[str]]:
    for name in NAMES:
        runs = [found.runs[name, 1] for found in result.rounds]
        cpu = ratios(result, name, 1, (BARE, 1), lambda run: 1 / run.cpu)
        yield (
            f"{result.size}", name, three_digits(median(run.steady for run in runs)),
            _spread(ratios(result, name, 1, (BARE, 1), _steady)) if name != BARE else "1",
            f">= {AIM}" if name == OURS else "",
            _spread([found.waits[1] for found in result.rounds]) if name == OURS else "",
            f"{median(run.workers for run in runs):.2f}",
            f"{median(run.workers + run.others for run in runs):.2f}" if name != BARE else "",
            _spread(cpu) if name != BARE else "1",
            f"{median(run.cores for run in runs):.2f}",
        )  # fmt: skip


_WHOLE = (
    "From the call to its end, on a Ray that runs already: with the start of the actor's process, and of ours also the "
    "plan, the lease, the manifest and the check of all ids. Jobs this short are mostly start; a real one takes hours."
)
_WHOLE_HEADER = (
    "Size", "Method", "Images/s", "Over Ray Data's", "Aim", "First images after, s", "End after the last, s", "Files",
)  # fmt: skip


def _whole_rows(result: Result) -> Iterable[Sequence[str]]:
    for name in NAMES:
        runs = [found.runs[name, 1] for found in result.rounds]
        files = [found.files for found in result.rounds] if name == PEER else [result.shards]
        over = ratios(result, name, 1, (PEER, 1), lambda run: run.whole)
        yield (
            f"{result.size}", name, three_digits(median(run.whole for run in runs)),
            _spread(over) if name == OURS else "", ">= 1" if name == OURS else "",
            f"{median(run.first for run in runs):.1f}", f"{median(run.last for run in runs):.1f}",
            " or ".join(str(number) for number in sorted(set(files))),
        )  # fmt: skip


_SCALING = (
    f"Steady images per second with one worker and with {WORKERS}. What the machine gives is what the bare processes reach "
    "together, and the aim is a share of that. Workers and Rest: cores that the workers used, and that all other processes of "
    "Ray and the driver used: where there are no more cores than workers, the workers lack these."
)
_SCALING_HEADER = (
    "Size", "Method", "One", f"{WORKERS}", f"{WORKERS} / one", f"{WORKERS} / {WORKERS} bare", "Aim", "Waits",
    "CPU", "Workers", "Rest", "Busy",
)  # fmt: skip


def _scaling_rows(result: Result) -> Iterable[Sequence[str]]:
    for name in (BARE, OURS):
        alone, together = ([found.runs[name, n] for found in result.rounds] for n in (1, WORKERS))
        yield (
            f"{result.size}", name, three_digits(median(run.steady for run in alone)),
            three_digits(median(run.steady for run in together)),
            _spread(ratios(result, name, WORKERS, (name, 1), _steady)),
            _spread(ratios(result, name, WORKERS, (BARE, WORKERS), _steady)) if name == OURS else "1",
            f">= {AIM}" if name == OURS else "",
            _spread([found.waits[WORKERS] for found in result.rounds]) if name == OURS else "",
            _spread(ratios(result, name, WORKERS, (BARE, WORKERS), lambda run: 1 / run.cpu)) if name == OURS else "1",
            f"{median(run.workers for run in together):.2f}",
            f"{median(run.others for run in together):.2f}" if name == OURS else "",
            f"{median(run.cores for run in together):.2f}",
        )  # fmt: skip


def _rows_note(audits: Audits) -> str:
    return (
        f"{audits.images} images of {audits.size} px in {audits.shards} files, each with its id; what a reader of the output "
        f"finds: for {OURS} the parts that the manifest names, for {PEER} all Parquet files in the folder. Kills are by "
        "SIGKILL, once a third of the images is done. Made: images that workers made, whether or not a reader finds them. Exits are those of the drivers, -9 for the one that was killed."
    )


_ROWS_HEADER = ("Case", "Method", "Rows in", "Rows out", "Doubled", "Missing", "Files", "Made", "Exits")


def _rows_rows(audits: Audits) -> Iterable[Sequence[str]]:
    for case, pair in audits.cases.items():
        for name, audit in zip((OURS, PEER), pair, strict=True):
            yield (
                case, name, f"{audits.images}", f"{audit.rows}", f"{audit.doubled}", f"{audit.missing}",
                f"{audit.files}", f"{audit.made}", ", ".join(str(status) for status in audit.exits),
            )  # fmt: skip


def _steady(run: Timeline) -> float:
    return run.steady


def _spread(values: Sequence[float]) -> str:
    """Median (least to most)."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})"

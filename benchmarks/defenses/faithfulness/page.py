"""What is done of a part as Markdown, with what was looked at."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from benchmarks.common.pages import machine, table
from benchmarks.defenses.faithfulness.adaptive import adaptive_section
from benchmarks.defenses.faithfulness.findings import FINDINGS, READING
from benchmarks.defenses.faithfulness.paper import COLUMNS, TABLES
from benchmarks.defenses.faithfulness.parts import PARTS, Part
from benchmarks.defenses.faithfulness.ranks import Figure, correlation, shared
from benchmarks.defenses.faithfulness.rows import ROWS
from benchmarks.defenses.faithfulness.scores import Done
from stl_ray.report.accuracy import cells_of
from stl_ray.report.attacks import attack_blocks
from stl_ray.report.blocks import Section
from stl_ray.report.names import UNDEFENDED, attack_label
from stl_ray.report.page import MARKDOWN, render
from stl_ray.report.records import ScoreCell, Scores

COMMAND = "python -m benchmarks.defenses.faithfulness"


def report(key: str, rows: Mapping[str, Done]) -> str:
    """The page of a part, from its rows that are done."""
    part, scores = PARTS[key], {name: done.scores for name, done in rows.items()}
    commits = sorted({done.commit for done in rows.values()})
    blocks = [
        f"# The defenses beside the paper: {part.title}",
        f"    {COMMAND} {key} --root runs/faithfulness --output benchmarks/results/defenses-{key}.md",
        f"{machine(('torch', 'torchvision', 'numpy', 'faiss-cpu'))}. Rows were made at {', '.join(commits) or 'no commit'}, "
        "each an experiment by the package's own jobs on a local Ray.",
        *(READING if part.paper else ()),
        _options(rows),
        *_fitted(part, rows),
        *(adaptive_section(scores) if part.paper is None else _section(part, scores)),
    ]
    missing = [name for name in part.rows if name not in rows]
    if missing:
        blocks.append(f"Not run: {', '.join(missing)}.")
    return "\n\n".join([*blocks, *FINDINGS.get(key, ())]) + "\n"


def _options(rows: Collection[str]) -> str:
    """What differs from the defaults of docs/defenses.md, row by row."""
    lines = [
        f"- {name}: {row.defense}{''.join(f', {key} {_value(value)}' for key, value in row.options.items())}"
        for name, row in ROWS.items()
        if name in rows and row.options
    ]
    said = "Rows have the defaults of [docs/defenses.md](../../docs/defenses.md), which are the published parameters"
    return "\n".join([f"{said}, but for:", "", *lines]) if lines else f"{said}."


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _fitted(part: Part, rows: Collection[str]) -> Iterator[str]:
    """What STL projects onto."""
    if not any(ROWS[name].on_space for name in rows):
        return
    if "load" in part.space:
        yield "STL has the authors' dictionary for 224 pixels (64 filters of 8 x 8, lambda 0.2)."
        return
    autoencoder, dictionary = part.space["autoencoder"], part.space["dictionary"]
    yield (
        f"What rows are fitted with comes of all training images of {part.folder}, at this size. STL's space has 4 clusters; its "
        f"autoencoder was trained for {autoencoder['epochs']} epochs, and each of its dictionaries (64 filters of 8 x 8, lambda "
        f"{dictionary['lmbda']:g}) learned from {dictionary['images']} images."
    )


def _section(part: Part, done: Mapping[str, Scores]) -> Iterator[str]:
    """Accuracies, gains, and what stands in the paper."""
    rows = [*_undefended(done), *((name, scores, name) for name, scores in done.items())]
    attacks = list(dict.fromkeys(cell.attack for scores in done.values() for cell in scores.cells))
    header = ("Method", "Images", *map(attack_label, attacks))
    yield "Accuracy with its 95 % Wilson interval:"
    yield table(header, (_line(label, scores, row, attacks, _accuracy) for label, scores, row in rows))
    yield "Gain: accuracy minus that of no defense on the same images, with its paired 95 % interval:"
    yield table(header, (_line(name, scores, name, attacks, _gain) for name, scores in done.items()))
    yield from _beside(part, done)
    largest = max(done.values(), key=lambda scores: scores.images)
    sets = Section("", "", attack_blocks(largest.attacks))
    yield render(MARKDOWN, title="", name="", sections=[sets]).removeprefix("# \n").replace("## \n", "").strip()


def _undefended(done: Mapping[str, Scores]) -> Iterator[tuple[str, Scores, str]]:
    """No defense, once for each number of images."""
    seen: set[int] = set()
    for scores in done.values():
        if scores.images not in seen:
            seen.add(scores.images)
            yield "no defense", scores, UNDEFENDED


def _line(
    label: str, scores: Scores, row: str, attacks: Sequence[str], say: Callable[[ScoreCell | None], str]
) -> list[str]:
    cells = cells_of(scores, "vanilla")
    return [label, str(scores.images), *(say(cells.get((row, attack))) for attack in attacks)]


def _accuracy(cell: ScoreCell | None) -> str:
    return "" if cell is None else f"{cell.accuracy:.3f} [{cell.low:.3f}, {cell.high:.3f}]"


def _gain(cell: ScoreCell | None) -> str:
    if cell is None or cell.versus_none is None:
        return ""
    gain = cell.versus_none
    return f"{gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def _beside(part: Part, done: Mapping[str, Scores]) -> Iterator[str]:
    """The rows that both have, one under the other, and how their orders agree."""
    paper = TABLES[part.paper or ""]
    both = shared(done, paper)
    if not both:
        return
    yield (
        f"{paper.title}. Ours beside it: accuracy, gain, and the share of what the attack took from the undefended network that the "
        "defense gives back:"
    )
    lines = []
    for name, (mine, theirs) in both.items():
        lines.append([f"{name}, ours", *(_figure(mine.get(column)) for column in COLUMNS)])
        lines.append([f"{ROWS[name].paper}, the paper's", *(_figure(theirs[column]) for column in COLUMNS)])
    yield table(("Method", *COLUMNS), lines)
    yield (
        f"Spearman's rank correlation of ours with the paper's over {len(both)} rows, by column, and over all cells "
        "under attack together:"
    )
    yield table(
        ("Method", *COLUMNS, "All attacks"),
        (
            [what, *(_said(correlation(pairs)) for pairs in _pairs(list(both.values()), what))]
            for what in ("gain", "share")
        ),
    )


def _pairs(
    both: Sequence[tuple[Mapping[str, Figure], Mapping[str, Figure]]], what: str
) -> list[list[tuple[float, float]]]:
    """By column, and of all attacked ones: (ours, the paper's)."""
    columns: list[list[tuple[float, float]]] = [
        [
            (mine, others)
            for own, theirs in both
            if column in own
            and (mine := getattr(own[column], what)) is not None
            and (others := getattr(theirs[column], what)) is not None
        ]
        for column in COLUMNS
    ]
    return [*columns, [pair for pairs in columns[1:] for pair in pairs]]


def _said(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return ""
    share = "" if figure.share is None else f", {100 * figure.share:.0f} %"
    return f"{figure.accuracy:.3f} ({figure.gain:+.3f}{share})"

"""What accuracies over all images hide: images saved and broken, those right to begin with, and every cluster by itself."""

from collections.abc import Callable, Iterator

from stl_ray.report.accuracy import cells_of
from stl_ray.report.blocks import EMPTY, Block, Cell, Table
from stl_ray.report.intervals import interval_cell, share_cell
from stl_ray.report.names import SETTINGS, attack_label, defense_label, unique
from stl_ray.report.records import ClusterScore, ScoreCell, Scores


def subgroup_blocks(scores: Scores) -> Iterator[Block]:
    """The tables of every setting; nothing where the scores are of an earlier version."""
    for setting in SETTINGS:
        cells = cells_of(scores, setting)
        if any(cell.initially_right for cell in cells.values()):
            yield _initially_right(setting, cells)
        if any(cell.versus_none and cell.versus_none.gained is not None for cell in cells.values()):
            yield _saved_and_broken(setting, cells)
        for defense in unique(defense for defense, _ in cells):
            rows = {attack: cell for (name, attack), cell in cells.items() if name == defense and cell.by_cluster}
            if rows:
                yield _clusters(setting, defense, rows)


_Cells = dict[tuple[str, str], ScoreCell]


def _initially_right(setting: str, cells: _Cells) -> Table:
    return _table(
        f"initially-right-{setting}",
        f"{SETTINGS[setting]}: of the images that are right to begin with",
        cells,
        lambda cell: share_cell(cell.initially_right),
        "Share [95 % Wilson interval] of the images that the vanilla classifier without defense has right when clean. Errors on clean "
        "images, which the tables of accuracy count in every column, are left out; so are clean images that a defense mends.",
        "interval",
    )


def _saved_and_broken(setting: str, cells: _Cells) -> Table:
    defended = {key: cell for key, cell in cells.items() if cell.versus_none is not None}
    return _table(
        f"saved-broken-{setting}",
        f"{SETTINGS[setting]}: images saved and broken",
        defended,
        _counts,
        "+: images that are right behind the defense alone; -: images that are right without it alone; on the same images.",
    )


def _counts(cell: ScoreCell) -> Cell:
    pair = cell.versus_none
    return EMPTY if pair is None or pair.gained is None else Cell(f"+{pair.gained} / -{pair.lost}")


def _table(
    name: str, caption: str, cells: _Cells, say: Callable[[ScoreCell], Cell], footnote: str, notes: str = "note"
) -> Table:
    """Rows defenses, columns clean and the attacks."""
    attacks = unique(attack for _, attack in cells)
    rows = tuple(
        (
            Cell(defense_label(defense)),
            *(say(cells[defense, attack]) if (defense, attack) in cells else EMPTY for attack in attacks),
        )
        for defense in unique(defense for defense, _ in cells)
    )
    return Table(name, caption, ("Defense", *map(attack_label, attacks)), rows, footnote, notes=notes)


def _clusters(setting: str, defense: str, by_attack: dict[str, ScoreCell]) -> Table:
    """Rows clusters, columns clean and the attacks."""
    found = {attack: {one.cluster: one for one in cell.by_cluster or ()} for attack, cell in by_attack.items()}
    sizes = {cluster: one.defended.total for ones in found.values() for cluster, one in ones.items()}
    rows = tuple(
        (Cell(str(cluster)), Cell(str(sizes[cluster])), *(_of_cluster(ones.get(cluster)) for ones in found.values()))
        for cluster in sorted(sizes)
    )
    return Table(
        f"clusters-{setting}-{defense}",
        f"{SETTINGS[setting]}: {defense_label(defense)}, cluster by cluster",
        ("Cluster", "Images", *map(attack_label, found)),
        rows,
        "Accuracy [95 % Wilson interval; without defense, on the same images] over the images that are routed to the cluster when "
        "clean.",
        folded=True,
        notes="interval; without defense",
    )


def _of_cluster(one: ClusterScore | None) -> Cell:
    if one is None:
        return EMPTY
    defended = interval_cell(one.defended.share, one.defended.low, one.defended.high)
    return Cell(defended.text, note=f"{defended.note[:-1]}; {one.undefended.share:.3f}]")

"""The roots of two experiments, A and B, read and compared: configurations, and the predictions of every cell that both have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stl_ray.config import Experiment, NamedAttack
from stl_ray.config.help import JOBS
from stl_ray.errors import ArtifactError, ComparisonError, IncompleteRunError
from stl_ray.options import require_known
from stl_ray.report.differences import Difference, differences
from stl_ray.report.inputs import read_experiment
from stl_ray.report.names import unique
from stl_ray.report.pairs import Compared, Held, Pair, compared, held, is_planned, pairs_of, rows_of
from stl_ray.store import Dataset, Layout, Storage
from stl_ray.store.layout import CLEAN
from stl_ray.store.runs import MANIFEST, Run

THERE, UNPLANNED, UNDONE, OTHERS = "there", "not in the configuration", "`evaluate` is to be run", "other images"

_COLUMNS = ("id", "label", "vanilla", "retrained", "vanilla_rejected", "retrained_rejected")


@dataclass(frozen=True)
class Root:
    """An experiment as it lies below a root."""

    storage: Storage
    experiment: Experiment
    place: int  # 0: A, 1: B

    @classmethod
    def open(cls, uri: str, place: int) -> "Root":
        """The experiment below a path or URI.

        Raises:
            IncompleteRunError: no job ended well there yet.
            ArtifactError: its configuration is of another version.
        """
        storage = Storage.open(uri)
        experiment = read_experiment(storage, Layout.experiment)
        if experiment is None:
            expected = f"{Layout.experiment}, which every job writes that ends well, `stl-ray ingest` first"
            raise IncompleteRunError("no experiment here yet", item=storage.root, expected=expected)
        return cls(storage, experiment, place)

    def folder(self, pair: Pair) -> str:
        """The folder of its predictions of a pair."""
        return Layout(self.storage.root).predictions(pair.classifier, pair.defenses[self.place], pair.attack)

    def state(self, pair: Pair) -> str:
        """How far its cell of a pair is."""
        if not is_planned(self.experiment, pair, self.place):
            return UNPLANNED
        return THERE if self.storage.exists(f"{self.folder(pair)}/{MANIFEST}") else UNDONE

    def predictions(self, pair: Pair) -> pa.Table:
        """Its predictions of a pair.

        Raises:
            ArtifactError: they are of a version that did not say what was refused.
            AuditError, StorageError: they are altered, or cannot be read.
        """
        folder = self.storage.at(self.folder(pair))
        table = pa.concat_tables(Dataset.open(folder).tables())
        missing = [name for name in _COLUMNS if name not in table.column_names]
        if missing:
            raise ArtifactError(
                "not predictions that this version can read", item=folder, expected=f"columns {', '.join(missing)}"
            )
        return table.select(list(_COLUMNS))

    def made_of(self, pair: Pair) -> dict[str, Any]:
        """The identity of its predictions of a pair."""
        return Run.open(self.storage.root, self.folder(pair)).identity

    def crafted(self, attack: str) -> tuple[NamedAttack, int]:
        """The settings of an attack set."""
        (found,) = (item for item in self.experiment.attack.sets if item.name == attack)
        return found, self.experiment.seed

    def without_predictions(self, pairs: Sequence[Pair]) -> IncompleteRunError:
        """The error where none of its cells of some pairs is there yet."""
        done = [job for job in JOBS if self.storage.names(Layout(self.storage.root).sessions(job))]
        rows = unique(pair.defenses[self.place] for pair in pairs)
        return IncompleteRunError(
            f"no predictions here yet of {', '.join(rows)}", item=self.storage.root,
            expected="those of `stl-ray evaluate`, which is still to be run",
            got=f"sessions of {', '.join(done) or 'no job'}",
        )  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """What changed from A to B.

    Attributes:
        roots: A and B.
        defenses: of A and of B that were compared with each other; None: every row with the same row of the other.
        differences: of the configurations.
        cells: every cell that both have, on the images that both have.
        lacking: the other cells, each with its state in A and in B.
        other_images: by (classifier, attack set), why the attacked images of A and of B are not the same.
        other_test_images: whether the test images are not the same bytes.
    """

    roots: tuple[Root, Root]
    defenses: tuple[str, str] | None
    differences: tuple[Difference, ...]
    cells: tuple[Compared, ...]
    lacking: tuple[tuple[Pair, tuple[str, str]], ...]
    other_images: dict[tuple[str, str], str]
    other_test_images: bool


def compare_roots(first: str, second: str, defenses: tuple[str, str] | None = None) -> Comparison:
    """Compare what lies below two roots.

    Args:
        first: path or URI of A.
        second: path or URI of B.
        defenses: of A and of B, `none` among them, to be compared with each other on every attack set that both have; None:
            every row with the same row of the other.

    Raises:
        ConfigError: no such defense.
        IncompleteRunError: one of them has no experiment or no predictions yet; it says which job is to be run.
        ComparisonError: they have no cell, or no image of any, in common.
        ArtifactError, AuditError, StorageError: a file is of another version, altered, or cannot be read.
    """
    one, other = roots = Root.open(first, 0), Root.open(second, 1)
    for root, name in zip(roots, defenses or (), strict=False):
        require_known(name, rows_of(root.experiment), kind=f"defense of {root.storage.root}")
    states = {
        pair: (one.state(pair), other.state(pair)) for pair in pairs_of(one.experiment, other.experiment, defenses)
    }
    for root in roots:
        planned = [pair for pair, state in states.items() if state[root.place] != UNPLANNED]
        if planned and all(states[pair][root.place] != THERE for pair in planned):
            raise root.without_predictions(planned)
    both = [pair for pair, state in states.items() if state == (THERE, THERE)]
    if not both:
        raise ComparisonError(
            "no cell is in both", item=f"{one.storage.root} and {other.storage.root}",
            expected="a scored classifier of the same name, with a defense and an attack set of the same names",
        )  # fmt: skip
    found = _read(roots, both)
    shared = {pair: item for pair, item in found.items() if len(item.first)}
    if not shared:
        counts = [max(item.left_out[root.place] for item in found.values()) for root in roots]
        raise ComparisonError(
            "no image is in both", item=f"{one.storage.root} and {other.storage.root}",
            expected="images of the same id and label", got=f"{counts[0]} and {counts[1]} others",
        )  # fmt: skip
    states |= {pair: (THERE, OTHERS) for pair in found if pair not in shared}
    reasons, other_test_images = _other_images(roots, list(shared))
    return Comparison(
        roots=roots,
        defenses=defenses,
        differences=differences(one.experiment, other.experiment),
        cells=compared(shared.items()),
        lacking=tuple((pair, state) for pair, state in states.items() if state != (THERE, THERE)),
        other_images=reasons,
        other_test_images=other_test_images,
    )


def _read(roots: tuple[Root, Root], pairs: Sequence[Pair]) -> dict[Pair, Held]:
    """What both have of every pair. The settings of a classifier are columns of the same files, which are read once."""
    settings: dict[tuple[str, tuple[str, str], str], list[Pair]] = {}
    for pair in pairs:
        settings.setdefault((pair.classifier, pair.defenses, pair.attack), []).append(pair)
    found: dict[Pair, Held] = {}
    for same in settings.values():
        first, second = (root.predictions(same[0]) for root in roots)
        found |= {pair: held(pair, first, second) for pair in same}
    return {pair: found[pair] for pair in pairs}


def _other_images(roots: tuple[Root, Root], pairs: Sequence[Pair]) -> tuple[dict[tuple[str, str], str], bool]:
    """By (classifier, attack set) why the attacked images are not the same; and whether the test images are not."""
    sets = {(pair.classifier, pair.attack): pair for pair in pairs}
    made = {key: [root.made_of(pair) for root in roots] for key, pair in sets.items()}
    other_tests = any(_differ(identities, "clean") for identities in made.values())
    reasons = {}
    for (classifier, attack), identities in made.items():
        if attack == CLEAN or not _differ(identities, "input"):
            continue
        first, second = (root.crafted(attack) for root in roots)
        if first != second:
            reasons[classifier, attack] = "other settings"
        elif not other_tests:
            reasons[classifier, attack] = "the same settings, another victim or another machine"
    return reasons, other_tests


def _differ(identities: Sequence[Mapping[str, Any]], key: str) -> bool:
    first, second = (identity.get(key) for identity in identities)
    return first != second

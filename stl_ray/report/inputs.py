"""Everything the report shows, read from an experiment's folder.

A missing file is None or empty; an empty gallery is a file without images.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from stl_ray.config import Experiment
from stl_ray.config.help import JOBS
from stl_ray.errors import ArtifactError
from stl_ray.report.records import (
    ClassifierRecord,
    Curves,
    GalleryRow,
    Manifest,
    Method,
    Record,
    Scores,
    Session,
    TrainingEpoch,
    VerdictsRun,
)
from stl_ray.report.space import read_space
from stl_ray.report.spaces import ShownSpace, read_loaded, used_spaces
from stl_ray.store import Layout, Storage
from stl_ray.store.layout import RETRAINED
from stl_ray.store.runs import MANIFEST, RUN
from stl_ray.store.shards import table_from_bytes
from stl_ray.store.spaces import RECORD

AnyRecord = TypeVar("AnyRecord", bound=Record)


@dataclass(frozen=True)
class ScoredClassifier:
    """The scores of one classifier behind every defense, and the images that are shown of it.

    Attributes:
        name: of the classifier.
        scores: its block.
        gallery: the images; None: not there yet.
        methods: by defense, the attacks of the tiers on it as they were asked for, of those that are on record.
    """

    name: str
    scores: Scores
    gallery: tuple[GalleryRow, ...] | None
    methods: dict[str, tuple[Method, ...]]


@dataclass(frozen=True)
class Inputs:
    """The experiment as far as it has come."""

    experiment: Experiment | None
    blocks: tuple[ScoredClassifier, ...]
    spaces: tuple[ShownSpace, ...]
    training: dict[str, tuple[TrainingEpoch, ...]]
    classifiers: dict[str, ClassifierRecord]
    sessions: tuple[Session, ...]
    manifests: tuple[Manifest, ...]

    @property
    def predicted(self) -> bool:
        """Whether the predictions of every cell of the scores are there, whole."""
        there, layout = {f"{manifest.stage}/{manifest.name}" for manifest in self.manifests}, Layout("")
        cells = {
            layout.predictions(block.name, c.defense, c.attack) for block in self.blocks for c in block.scores.cells
        }
        return bool(cells) and cells <= there


def read_inputs(root: str) -> Inputs:
    """Read the experiment under a path or URI.

    Raises:
        ArtifactError: if a file is there but unreadable, altered, or of another version; the message names it.
        StorageError: if the storage refuses.
    """
    storage, layout = Storage.open(root), Layout(root)
    experiment = read_experiment(storage, layout.experiment)
    networks = sorted(storage.names("train"), key=lambda name: RETRAINED in name)
    classifiers = [name for name in networks if storage.exists(f"train/{name}/model.json")]
    metrics = [name for name in networks if storage.exists(f"train/{name}/metrics.jsonl")]
    return Inputs(
        experiment=experiment,
        blocks=_read_blocks(storage, layout, experiment),
        spaces=_read_spaces(storage, experiment),
        training={name: tuple(_read_lines(storage, f"train/{name}/metrics.jsonl", TrainingEpoch)) for name in metrics},
        classifiers={name: _parse(storage, f"train/{name}/model.json", ClassifierRecord) for name in classifiers},
        sessions=tuple(
            session
            for job in JOBS
            for name in storage.names(layout.sessions(job))
            for session in [_parse(storage, f"{layout.sessions(job)}/{name}", Session)]
        ),
        manifests=_read_manifests(storage),
    )


def _read_blocks(storage: Storage, layout: Layout, experiment: Experiment | None) -> tuple[ScoredClassifier, ...]:
    """The classifiers that were scored, in the experiment's order."""
    there = storage.names("evaluate")
    if experiment is not None:
        there = [item.name for item in experiment.classifiers if item.scored]
    return tuple(_read_block(storage, layout, name) for name in there if storage.exists(layout.scores(name)))


def _read_block(storage: Storage, layout: Layout, name: str) -> ScoredClassifier:
    scores = _parse(storage, layout.scores(name), Scores)
    defenses = [row.defense for row in scores.tiers.rows] if scores.tiers else []
    runs = {defense: _read_one(storage, f"{layout.verdicts(name, defense)}/{RUN}", VerdictsRun) for defense in defenses}
    methods = {defense: run.identity.attacks for defense, run in runs.items() if run is not None}
    return ScoredClassifier(name, scores, _read_gallery(storage, layout.gallery(name)), methods)


def _read_spaces(storage: Storage, experiment: Experiment | None) -> tuple[ShownSpace, ...]:
    """Those that the experiment's defenses use; where it is not known, those that were fitted."""
    if experiment is None:
        return tuple(_read_fitted(storage, name) for name in storage.names(Layout.spaces))
    return tuple(
        _read_fitted(storage, space.name) if space.load is None else read_loaded(space, space.load)
        for space in used_spaces(experiment)
    )


def _read_fitted(storage: Storage, name: str) -> ShownSpace:
    folder = Layout.space(name)
    stored = read_space(storage.at(folder)) if storage.exists(f"{folder}/{RECORD}") else None
    return ShownSpace(name, stored, _read_one(storage, Layout.curves(name), Curves))


def _read_one(storage: Storage, path: str, kind: type[AnyRecord]) -> AnyRecord | None:
    return _parse(storage, path, kind) if storage.exists(path) else None


def _parse(storage: Storage, path: str, kind: type[AnyRecord]) -> AnyRecord:
    return _validated(kind, storage.read(path), item=storage.at(path))


def _read_lines(storage: Storage, path: str, kind: type[AnyRecord]) -> Iterable[AnyRecord]:
    for number, line in enumerate(storage.read(path).splitlines(), start=1):
        if line.strip():
            yield _validated(kind, line, item=f"{storage.at(path)} line {number}")


def _validated(kind: type[AnyRecord], data: bytes, *, item: object) -> AnyRecord:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise _unusable(error, item=item) from error


def _unusable(error: ValidationError, *, item: object) -> ArtifactError:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return ArtifactError(
        f"not a file that this version can read ({where or 'the whole file'}: {first['msg']})", item=item
    )


def read_experiment(storage: Storage, path: str) -> Experiment | None:
    """The configuration that a job stored; None: none has.

    Raises:
        ArtifactError: if it is of another version.
    """
    if not storage.exists(path):
        return None
    try:
        return Experiment.model_validate_json(storage.read(path))
    except ValidationError as error:
        raise _unusable(error, item=storage.at(path)) from error


def _read_gallery(storage: Storage, path: str) -> tuple[GalleryRow, ...] | None:
    if not storage.exists(path):
        return None
    rows = table_from_bytes(storage.read(path), item=storage.at(path)).to_pylist()
    try:
        return tuple(GalleryRow.model_validate(row) for row in rows)
    except ValidationError as error:
        raise _unusable(error, item=storage.at(path)) from error


def _read_manifests(storage: Storage) -> tuple[Manifest, ...]:
    folders = [f"{stage}/{name}" for stage in storage.names() for name in storage.names(stage)]
    # Sets and predictions lie in a folder of their classifier.
    folders += [f"{f}/{name}" for f in folders if f.startswith(("attack/", "evaluate/")) for name in storage.names(f)]
    paths = [f"{folder}/{MANIFEST}" for folder in folders]
    manifests = [_parse(storage, path, Manifest) for path in paths if storage.exists(path)]
    order = {job: number for number, job in enumerate(JOBS)}
    return tuple(sorted(manifests, key=lambda manifest: (order.get(manifest.stage, len(JOBS)), manifest.name)))

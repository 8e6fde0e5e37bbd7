"""ingest: files of any kind -> image shards. Broken images are set aside with their reason; the others go on."""

import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa

from stl_ray.config import Experiment, Split
from stl_ray.errors import ImageError, InputError, QuarantineReason
from stl_ray.images import MIN_SIDE, PIXEL_DIGEST, decode_original, encode_png, image_schema, pixel_digest, resize
from stl_ray.images.readers import LeftOut, RawImage, Reader, SourceShard, open_reader, require_text
from stl_ray.images.readers.examples import first_of
from stl_ray.pipeline.identical import NOT_COUNTED, count_identical
from stl_ray.runtime.concurrency import COMPUTE, in_threads
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob, run_shards
from stl_ray.runtime.shard_task import RawRow, ShardOutput
from stl_ray.store import Dataset, Layout, PlannedShard, QuarantinedRow, Run
from stl_ray.uris import joined, parted

# Images that are decoded under one hold of the compute lock.
_AT_ONCE = 64


def run(experiment: Experiment) -> dict[str, Any]:
    """Ingest the splits; the counts of images, quarantined and identical, and a remark on these and on files left out.

    Raises:
        InputError: if a source is missing, empty or unusable, or the splits have different classes.
    """
    manifests = run_shards(plan(experiment), experiment)
    counts = {"images": sum(m["rows"] for m in manifests), "quarantined": sum(m["quarantined"] for m in manifests)}
    layout, splits = Layout(experiment.root), experiment.ingest.sources
    record, remarks = {}, [_remark(experiment)]
    if len(splits) > 1:
        identical = count_identical(*(Dataset.open(layout.uri(layout.ingested(split))) for split in splits))
        remarks.append(NOT_COUNTED if identical is None else identical.text())
        record = {"identical": identical.record()} if identical else {}
    remark = "; ".join(filter(None, remarks))
    return {**counts, **record, **({"remark": remark} if remark else {})}


def _remark(experiment: Experiment) -> str:
    """A remark on files left out and on classes without images, from the notes of the plans; empty without either."""
    layout, splits = Layout(experiment.root), experiment.ingest.sources
    notes = {split: Run.open(experiment.root, layout.ingested(split)).plan().notes for split in splits}
    left_out = {split: LeftOut.of(notes[split]) for split in splits}
    texts = [f"of {split} {text}" for split in splits if (text := left_out[split].text())]
    empty = [f"in {split} {text}" for split in splits if (text := left_out[split].empty_text())]
    return "; ".join([f"left out {'; '.join(texts)}"] * bool(texts) + empty)


def plan(experiment: Experiment) -> ShardJob:
    """The runs of the splits; their shards are planned one by one, as they are taken.

    Raises:
        InputError: if a source is missing, empty or unusable, the splits read the same files or have different classes, or
            the name of a class is no text.
    """
    config = experiment.ingest
    readers = {split: open_reader(source, split=split) for split, source in config.sources.items()}
    if len(readers) > 1:
        _refuse_shared(readers)
    names = {split: reader.class_names for split, reader in readers.items()}
    for split in readers:
        require_text(names[split], f"ingest.{split}", "the name of a class")
    if len(readers) > 1 and names["train"] != names["test"]:
        raise InputError(
            "the splits have different classes", item="ingest.test", expected=names["train"], got=names["test"]
        )
    layout = Layout(experiment.root)
    planned = []
    for split, reader in readers.items():
        shards = planned_shards(reader.plan(config.shard_size))
        identity = {
            # Without the path: the plan's digest covers the files there. The order is that of the names below.
            "source": config.sources[split].model_dump(mode="json", exclude={"path", "class_order"}),
            "size": config.size,
            "codec": config.codec,
            "max_pixels": config.max_pixels,
            "class_names": names[split],
        }
        planned.append(PlannedRun(layout.ingested(split), shards, identity, notes=partial(_notes, reader)))
    return ShardJob("ingest", planned, partial(IngestTask, experiment, next(iter(names.values()))), gpu=False)


def _refuse_shared(readers: Mapping[Split, Reader]) -> None:
    """Refuse sources of which both splits would get the same images.

    Raises:
        InputError: with the files or folders that both read.
    """
    train, test = (reader.places for reader in readers.values())
    shared = train.shared(test)
    if not shared:
        return
    expected = "a folder of its own for each, neither in the other"
    if train.files:
        folder, name = parted(shared[0])
        patterns = (joined(folder, f"{split}-*{posixpath.splitext(name)[1]}") for split in readers)
        expected = f"files of its own for each, such as those of {' and '.join(patterns)}"
    what = f"{'file' if train.files else 'folder'}{'s' * (len(shared) > 1)}"
    raise InputError(
        "the splits overlap", item="ingest.train.path, ingest.test.path", expected=expected,
        got=f"{len(shared)} {what} that both read: {first_of(shared)}",
    )  # fmt: skip


def planned_shards(shards: Iterable[SourceShard]) -> Iterator[PlannedShard]:
    """A reader's shards in their order, numbered from 0."""
    for number, shard in enumerate(shards):
        yield PlannedShard(number=number, source=shard.source, rows=shard.rows, digest=shard.digest)


def _notes(reader: Reader) -> dict[str, Any]:
    return reader.left_out.record()


@dataclass
class IngestTask:
    """Decodes, checks, resizes and encodes the images of a shard.

    Args:
        experiment: what to read and what to make of it.
        class_names: from the driver; reading them from a source may take long.
    """

    experiment: Experiment
    class_names: Sequence[str]

    def __post_init__(self) -> None:
        layout = Layout(self.experiment.root)
        sources = self.experiment.ingest.sources
        self._readers = {layout.ingested(split): open_reader(source, split=split) for split, source in sources.items()}

    def __call__(self, run: str, shard: PlannedShard, rows: Collection[int] | None = None) -> ShardOutput:
        """One shard of a split, or only the images at some positions."""
        images: list[dict[str, Any]] = []
        quarantine: list[QuarantinedRow] = []
        wanted = (
            raw
            for position, raw in enumerate(self._readers[run].read(shard.source))
            if rows is None or position in rows
        )
        while batch := list(islice(wanted, _AT_ONCE)):
            with COMPUTE.held():
                results = in_threads(self._image, batch)
            images += [row for row in results if isinstance(row, dict)]
            quarantine += [row for row in results if isinstance(row, QuarantinedRow)]
        schema = image_schema("image", self.class_names)
        return ShardOutput(pa.Table.from_pylist(images, schema=schema), quarantine)

    def raw(self, run: str, shard: PlannedShard, row: int) -> RawRow:
        """The file at a position of the shard."""
        raw = next(islice(self._readers[run].read(shard.source), row, None))
        return RawRow(raw.id, raw.data if isinstance(raw.data, bytes) else None)

    def _image(self, raw: RawImage) -> dict[str, Any] | QuarantinedRow:
        try:
            return self._row(raw)
        except ImageError as error:
            data = raw.data if isinstance(raw.data, bytes) else None
            return QuarantinedRow(raw.id, error.reason, str(error), data)

    def _row(self, raw: RawImage) -> dict[str, Any]:
        if raw.problem is not None:
            raise ImageError("refused by the reader", reason=raw.problem, item=raw.id)
        if raw.data is None:
            raise ImageError("no bytes", reason=QuarantineReason.MISSING_IMAGE, item=raw.id)
        classes = len(self.class_names)
        if not -1 <= raw.label < classes:
            raise ImageError(
                "no such class", reason=QuarantineReason.LABEL_OUT_OF_RANGE, item=raw.id,
                expected=f"-1 (unknown) to {classes - 1}", got=raw.label,
            )  # fmt: skip
        config = self.experiment.ingest
        if isinstance(raw.data, bytes):
            image, plain = decode_original(raw.data, max_pixels=config.max_pixels)
        else:
            image, plain = raw.data, False
        kept = raw.data if plain and config.codec == "keep" else None
        if config.size is not None and image.shape[:2] != (config.size, config.size):
            image, kept = resize(image, config.size), None
        if min(image.shape[:2]) < MIN_SIDE:
            raise ImageError(
                "too small", reason=QuarantineReason.TOO_SMALL, item=raw.id, expected=f"at least {MIN_SIDE} pixels",
                got=f"{image.shape[1]} x {image.shape[0]}",
            )  # fmt: skip
        stored = encode_png(image) if kept is None else kept
        return {
            "id": raw.id, "image": {"bytes": stored, "path": raw.path}, "label": raw.label,
            PIXEL_DIGEST: pixel_digest(image),
        }  # fmt: skip

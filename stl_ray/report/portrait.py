"""The portrait of a space: what it is, how it was made, how well it did on held-out images, and how it looks.

Tables and figures as blocks, for `stl-ray describe` and, where they are the same, for the report.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from stl_ray.report import charts, pictures
from stl_ray.report.blocks import EMPTY, Cell, Figure, Table
from stl_ray.report.names import dictionary_label
from stl_ray.report.records import Candidate
from stl_ray.report.space import VERSION, AutoencoderRecord, DictionaryRecord, StoredSpace
from stl_ray.store import Artifact, Storage


@dataclass(frozen=True)
class Portrait:
    """A space as lines, tables and figures; parts that the space does not have are left out."""

    facts: dict[str, str]
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]

    def save_figures(self, folder: str) -> list[str]:
        """Write every figure as NAME.png into a folder; the absolute paths.

        Raises:
            StorageError: the folder cannot be written to.
        """
        storage = Storage.open(folder)
        for figure in self.figures:
            storage.write(f"{figure.name}.png", figure.png)
        return [storage.at(f"{figure.name}.png") for figure in self.figures]


def portray(space: StoredSpace) -> Portrait:
    """The portrait of a space."""
    provenance = space.provenance
    candidates = provenance.clusters.candidates if provenance.clusters else ()
    chosen = len(space.dictionaries)
    tables = [dictionary_table(provenance.dictionaries)] if provenance.dictionaries else []
    figures = [*filter_figure(space), *cluster_figure(space)]
    if candidates:
        tables.append(candidate_table(candidates, chosen))
        figures.append(candidate_figure(candidates, chosen))
    return Portrait(_facts(space), tuple(tables), tuple(figures))


def portray_artifact(artifact: Artifact) -> Portrait:
    """The portrait of what is no space: its digest, the shapes of its arrays and its record."""
    arrays = [
        f"{name} {' x '.join(map(str, array.shape))} {array.dtype}" for name, array in sorted(artifact.arrays.items())
    ]
    record = {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for name, value in artifact.meta.items()
    }
    return Portrait({"digest": artifact.digest, "arrays": ", ".join(arrays), **record}, (), ())


def filter_figure(space: StoredSpace) -> tuple[Figure, ...]:
    """The filter atlas; none where filters have neither one channel nor three."""
    if not _visible(space):
        return ()
    clusters = space.dictionaries if space.clustered else space.dictionaries[:0]
    caption = "the universal dictionary and one per cluster" if space.clustered else "the one dictionary of this space"
    png = charts.to_png(pictures.filter_atlas, space.universal, clusters, space.record.sizes or ())
    caption = f"Filter atlas: {caption}; every filter about mid-grey, scaled by its own peak.{_shown(len(clusters))}"
    return (Figure("filters", caption, png),)


def cluster_figure(space: StoredSpace) -> tuple[Figure, ...]:
    """The images of every cluster beside its filters; none where the space holds no images."""
    if space.samples is None or not _visible(space):
        return ()
    png = charts.to_png(pictures.cluster_atlas, space.dictionaries, space.samples, space.record.sizes or ())
    caption = f"Filters of every cluster, and the training images nearest its centroid.{_shown(len(space.samples))}"
    return (Figure("clusters", caption, png),)


def candidate_figure(candidates: Sequence[Candidate], chosen: int) -> Figure:
    """The diagnostic of the number of clusters."""
    caption = (
        "How many clusters: inertia, which always falls with M, and silhouette, which is larger where clusters lie "
        "farther apart (of a random sample where there are many images); on the training latents. This space has "
        f"{chosen} (dotted line)."
    )
    return charts.chart("candidates", caption, charts.candidates_chart, candidates, chosen)


def candidate_table(candidates: Sequence[Candidate], chosen: int) -> Table:
    """The figures of the diagnostic."""
    rows = tuple(
        (
            Cell(str(row.clusters), note="chosen" if row.clusters == chosen else "", strong=row.clusters == chosen),
            Cell(f"{row.inertia:.4g}"),
            Cell(f"{row.silhouette:.3f}"),
            Cell(f"{min(row.sizes, default=0):,}"),
            Cell(f"{max(row.sizes, default=0):,}"),
        )
        for row in candidates
    )
    columns = ("M", "Inertia", "Silhouette", "Smallest cluster", "Largest cluster")
    footnote = "Inertia: mean squared distance of a training latent to its centroid. Clusters in training images."
    return Table("candidates", "Numbers of clusters", columns, rows, footnote)


def dictionary_table(dictionaries: dict[str, DictionaryRecord]) -> Table:
    """The learning and the quality of every dictionary."""
    columns = ("Dictionary", "Method", "Images", "Iterations", "Converged", "Objective", "Sparsity", "PSNR, dB")
    rows = tuple((Cell(dictionary_label(name)), *_learned(record)) for name, record in dictionaries.items())
    held = {record.holdout for record in dictionaries.values() if record.holdout is not None}
    on = f"{' or '.join(f'{count:,}' for count in sorted(held))} held-out images" if held else "held-out images"
    footnote = f"Objective, share of non-zero coefficients and PSNR of the projection: means over {on}."
    return Table("dictionaries", "Dictionaries", columns, rows, footnote)


def _learned(record: DictionaryRecord) -> tuple[Cell, ...]:
    texts = (
        record.method,
        None if record.images is None else f"{record.images:,}",
        None if record.iterations is None else str(record.iterations),
        None if record.converged is None else "yes" if record.converged else "no",
        None if record.objective is None else f"{record.objective:.4g}",
        None if record.sparsity is None else f"{record.sparsity:.2%}",
        None if record.psnr is None else f"{record.psnr:.2f}",
    )
    return tuple(EMPTY if text is None else Cell(text) for text in texts)


def _facts(space: StoredSpace) -> dict[str, str]:
    """The facts of a space by name, without those that it does not have."""
    record, provenance = space.record, space.provenance
    imported = provenance.imported
    count, channels, side = space.universal.shape[:3]
    filters = f"K = {count} of S = {side} x {side} pixels, C = {channels} channel{'s' if channels > 1 else ''}"
    facts = {
        "digest": record.content_digest,
        "digest of stl": record.universal_digest if space.clustered else None,
        "artifact": f"version {VERSION}, digest {space.digest}",
        "filters": filters + (f", {record.norm.replace('_', ' ')} norm" if record.norm else ""),
        "lambda": _lambdas(space),
        "resolution": record.resolution and f"{record.resolution} pixels",
        "training images": provenance.images and f"{provenance.images:,}",
        "clusters": _clusters(space),
        "vote": _vote(space),
        "autoencoder": _autoencoder(space, provenance.autoencoder),
        "fitted": _origin(seed=provenance.seed, dataset=provenance.dataset),
        "imported from": imported and _origin(file=imported.file, sha256=imported.sha256),
    }
    return {name: text for name, text in facts.items() if text}


def _lambdas(space: StoredSpace) -> str | None:
    record = space.record
    if record.lmbda is None:
        return None
    learned = {value for value in (record.universal_lmbda, *(record.dictionary_lmbdas or ())) if value is not None}
    if learned <= {record.lmbda}:
        return f"{record.lmbda:g}"
    return f"{record.lmbda:g}; learned at {', '.join(f'{value:g}' for value in sorted(learned))}"


def _clusters(space: StoredSpace) -> str:
    if not space.clustered:
        return "none: one dictionary for every image"
    sizes = space.record.sizes
    count = f"M = {len(space.dictionaries)}"
    return f"{count}, of {', '.join(f'{size:,}' for size in sizes)} training images" if sizes else count


def _vote(space: StoredSpace) -> str | None:
    if not space.clustered or space.record.neighbours is None:
        return None
    return (
        f"k = {space.record.neighbours} nearest of {space.references:,} reference latents "
        f"of {space.pca_dimensions} PCA dimensions"
    )


def _autoencoder(space: StoredSpace, record: AutoencoderRecord | None) -> str | None:
    """Its size, how long it was trained, and its PSNR beside that of the noisy images."""
    side = space.record.side
    parts = [f"{side} x {side} pixels"] if side else []
    if record and record.epochs is not None:
        parts.append(f"{record.epochs} epochs")
    if record and record.validation_loss is not None:
        parts.append(f"validation loss {record.validation_loss:.4f}")
    if record and record.psnr is not None:
        noisy = "" if record.noisy_psnr is None else f" from noisy ones of {record.noisy_psnr:.2f} dB"
        parts.append(f"denoised images of {record.psnr:.2f} dB{noisy}")
    return ", ".join(parts)


def _origin(**parts: object) -> str:
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None)


def _visible(space: StoredSpace) -> bool:
    return space.universal.shape[1] in (1, 3)


def _shown(count: int) -> str:
    shown = pictures.MAX_CLUSTERS
    return f" The first {shown} of {count} clusters." if count > shown else ""

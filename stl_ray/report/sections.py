"""The page's sections, in order, from what an experiment's folder holds. A missing input is said to be missing."""

from collections.abc import Sequence

from stl_ray.config import Budgeted
from stl_ray.report import charts
from stl_ray.report.accuracy import accuracy_table, cells_of, difference_table, paper_table, verdict
from stl_ray.report.attacks import attack_blocks
from stl_ray.report.blocks import EMPTY, Block, Cell, Figure, Section, Table, Text, missing
from stl_ray.report.gallery import gallery_blocks
from stl_ray.report.inputs import Inputs
from stl_ray.report.learning import curve_blocks, space_blocks
from stl_ray.report.names import SETTINGS, attack_label, defense_label
from stl_ray.report.paper import SIZE, TABLES
from stl_ray.report.provenance import provenance, quarantine, timings
from stl_ray.report.records import ScoreCell, Scores
from stl_ray.report.threats import threat_sentences
from stl_ray.report.tiers import tier_blocks

STL_DEFENSES = ("stl", "stl_cluster")  # names in the defense registry
SOLVED = ("converged", "applied")  # statuses of images whose solve converged, or that need none


def build_sections(inputs: Inputs) -> tuple[Section, ...]:
    """Every section of the page."""
    return (
        Section("run", "What was run", (Text(_what_was_run(inputs)),)),
        *_tiers(inputs.scores),
        *(Section(setting, SETTINGS[setting], _accuracy(inputs, setting)) for setting in SETTINGS),
        *_attacks(inputs.scores),
        Section("reading", "How to read these numbers", _caveats(inputs)),
        Section("gallery", "Gallery: adversarial, purified, clean", _gallery(inputs)),
        Section("space", "The stratified space", space_blocks(inputs)),
        Section("curves", "Learning curves", curve_blocks(inputs)),
        Section("psnr", "PSNR and routing", _psnr(inputs.scores)),
        Section("timings", "Timings", timings(inputs)),
        Section("quarantine", "Quarantine", quarantine(inputs)),
        Section("provenance", "Provenance", provenance(inputs)),
    )


def _what_was_run(inputs: Inputs) -> str:
    experiment, scores = inputs.experiment, inputs.scores
    if experiment is None:
        return "The experiment's configuration (experiment.json) is not here; the sections below show what is."
    rows = {(manifest.stage, manifest.name): manifest.rows for manifest in inputs.manifests}
    size = f" at {experiment.ingest.size} pixels" if experiment.ingest.size else ""
    counts = [f"{rows['ingest', split]} {split} images" for split in ("train", "test") if ("ingest", split) in rows]
    source = f"{experiment.ingest.train.format}{size}" + (f" ({', '.join(counts)})" if counts else "")
    dictionary = experiment.fit.dictionary
    attacks = ", ".join(
        f"{attack_label(item.name)} ({item.attack}, {_budget(item)})" for item in experiment.attack.sets
    )
    defenses = ", ".join(defense_label(item.name) for item in experiment.defenses)
    training = f"{experiment.train.epochs} epochs" if experiment.train.epochs else "with its given weights"
    scored = f" All rows were scored on {scores.scored}." if scores else ""
    return (
        f"Experiment {experiment.name}, seed {experiment.seed}. Images: {source}. Space: {experiment.fit.clusters} "
        f"clusters, dictionaries of {dictionary.filters} filters of {dictionary.size} x {dictionary.size} pixels at "
        f"lambda {dictionary.lmbda:g}, learned from the training images. Classifier: {experiment.train.classifier}, "
        f"{training}. Defenses: {defenses}. Sets of adversarial images: "
        f"{attacks}.{scored}"
    )


def _budget(item: Budgeted) -> str:
    size = next(
        f"{name} {value:g}" for name in ("dissimilarity", "l2", "linf") if (value := getattr(item, name)) is not None
    )
    return size if item.store == "u8" else f"{size}, float32"


def _accuracy(inputs: Inputs, setting: str) -> tuple[Block, ...]:
    paper = _paper(inputs, setting)
    scores = inputs.scores
    if scores is None:
        return (missing("evaluate/scores.json", "evaluate"), *paper)
    if not cells_of(scores, setting):
        return (Text("The scores hold no cell of this setting.", kind="missing"), *paper)
    figure = Figure(
        f"accuracy-{setting}",
        f"{SETTINGS[setting]}: accuracy with its 95 % interval; the dotted line is chance.",
        charts.to_png(charts.accuracy_chart, scores, setting),
    )
    sentences = verdict(scores, setting, _stl_names(inputs))
    return (
        *(Text(sentence, kind="finding") for sentence in sentences),
        accuracy_table(scores, setting),
        *paper,
        figure,
        difference_table(scores, setting),
    )


def _paper(inputs: Inputs, setting: str) -> tuple[Table, ...]:
    """The paper's table, unless the experiment's images are known to have another size."""
    size = inputs.experiment.ingest.size if inputs.experiment else None
    return (paper_table(TABLES[setting]),) if size in (None, SIZE) else ()


def _attacks(scores: Scores | None) -> tuple[Section, ...]:
    if scores is None or not scores.attacks:
        return ()
    return (Section("attacks", "What the attacks did", attack_blocks(scores.attacks)),)


def _tiers(scores: Scores | None) -> tuple[Section, ...]:
    if scores is None or scores.tiers is None:
        return ()
    return (Section("tiers", "Attacks that know of the defense: the worst case", tier_blocks(scores.tiers)),)


def _stl_names(inputs: Inputs) -> Sequence[str]:
    if inputs.experiment is None:
        return STL_DEFENSES
    return [item.name for item in inputs.experiment.defenses if item.defense in STL_DEFENSES]


def _caveats(inputs: Inputs) -> tuple[Block, ...]:
    texts = []
    experiment = inputs.experiment
    if experiment is not None and "photographs" in {experiment.ingest.train.format, experiment.ingest.test.format}:
        texts.append(
            "The images are crops of ten photographs. Crops of one photograph are not independent of each other, so the "
            "intervals, which take them to be, are too narrow as statements about photographs in general."
        )
    texts += [
        *threat_sentences(inputs.scores),
        "Images that the classifier has wrong when clean count as errors in every column. No defense in the retrained "
        "setting is the vanilla classifier; every other row there was trained and tested on its own defense's output.",
    ]
    return tuple(Text(text, kind="caveat") for text in texts)


def _gallery(inputs: Inputs) -> tuple[Block, ...]:
    if inputs.gallery is None:
        return (missing("evaluate/gallery.parquet", "evaluate"),)
    if not inputs.gallery:
        return (Text("No images were asked for (evaluate.gallery: 0)."),)
    return gallery_blocks(inputs.gallery, inputs.scores.class_names if inputs.scores else ())


def _psnr(scores: Scores | None) -> tuple[Block, ...]:
    if scores is None:
        return (missing("evaluate/scores.json", "evaluate"),)
    blocks: list[Block] = []
    if any(cell.psnr is not None for cell in scores.cells):
        png = charts.to_png(charts.psnr_chart, scores)
        blocks.append(
            Figure(
                "psnr",
                "Mean PSNR of what the classifier sees against the clean image, over the images that differ from it.",
                png,
            )
        )
    rows = [_measured(cell) for cell in scores.cells]
    columns = ["Defense", "Images", "Tier", "Setting", "Correct", "PSNR, dB", "Cluster changed", "Float disagrees"]
    footnote = (
        "Cluster changed: share of images routed to another cluster than when clean. Float disagrees: images on which "
        "the pipeline without 8-bit rounding after the defense predicts another class."
    )
    unsolved = [_unsolved(cell) for cell in scores.cells]
    if any(unsolved):
        columns.append("Not converged")
        rows = [(*row, Cell(text) if text else EMPTY) for row, text in zip(rows, unsolved, strict=True)]
        footnote += (
            " Not converged: images whose solve ended otherwise; one at its max iterations is scored as it came out, a "
            "diverged one counts as wrong."
        )
    blocks.append(Table("Every cell of the tables", tuple(columns), tuple(rows), footnote, folded=True))
    return tuple(blocks)


def _unsolved(cell: ScoreCell) -> str:
    """How many solves ended otherwise than by convergence, and how; empty where none did."""
    others = {status: count for status, count in cell.statuses.items() if status not in SOLVED}
    return ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in others.items())


def _measured(cell: ScoreCell) -> tuple[Cell, ...]:
    return (
        Cell(defense_label(cell.defense)),
        Cell(attack_label(cell.attack)),
        Cell(cell.threat),
        Cell(cell.setting),
        Cell(f"{cell.correct} of {cell.total}"),
        EMPTY if cell.psnr is None else Cell(f"{cell.psnr:.2f}"),
        EMPTY if cell.cluster_changed is None else Cell(f"{cell.cluster_changed:.1%}"),
        Cell(str(cell.float_disagreements)),
    )

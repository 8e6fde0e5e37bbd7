"""The page's sections, in order, from what an experiment's folder holds. A missing input is said to be missing."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from stl_ray.config import SCRATCH, Budgeted, ClassifierConfig, SpaceConfig
from stl_ray.report import charts
from stl_ray.report.accuracy import accuracy_table, cells_of, difference_table, paper_table, verdict
from stl_ray.report.attacks import attack_blocks
from stl_ray.report.beside_paper import beside_paper
from stl_ray.report.blocks import EMPTY, Block, Cell, Figure, Section, Table, Text, missing
from stl_ray.report.detection import detection_table
from stl_ray.report.draws import draw_blocks
from stl_ray.report.gallery import gallery_blocks
from stl_ray.report.inputs import Inputs, ScoredClassifier
from stl_ray.report.learning import curve_blocks, space_blocks
from stl_ray.report.names import SETTINGS, STL_DEFENSES, attack_label, defense_label, listed, unique
from stl_ray.report.paper import COLUMNS, SIZE, tables_at
from stl_ray.report.perturbations import perturbation_blocks
from stl_ray.report.provenance import provenance, quarantine, timings
from stl_ray.report.records import ScoreCell, Scores
from stl_ray.report.spaces import used_spaces
from stl_ray.report.subgroups import subgroup_blocks
from stl_ray.report.sweeps import sweep_figures
from stl_ray.report.threats import threat_sentences
from stl_ray.report.tiers import tier_blocks
from stl_ray.store import Layout

SOLVED = ("converged", "applied")  # statuses of images whose solve converged, or that need none


def build_sections(inputs: Inputs, *, paper: bool = False) -> tuple[Section, ...]:
    """Every section of the page; those of scores come once for each classifier.

    Args:
        inputs: the experiment.
        paper: whether ours stand in the paper's tables, which otherwise stand beside ours.
    """
    return (
        Section("run", "What was run", (Text(_what_was_run(inputs)),)),
        *(_accuracy_sections(inputs, None) if not inputs.blocks else ()),
        *_for_each(
            inputs,
            lambda block: (
                *_tiers(block.scores),
                *([_beside_paper(inputs, block.scores)] if paper else []),
                *_accuracy_sections(inputs, block.scores, paper=paper),
                *_sweeps(inputs, block.scores),
                *_draws(block.scores),
                *_subgroups(block.scores),
            ),
        ),
        *_for_each(inputs, lambda block: (*_attacks(block.scores), *_perturbations(block.scores))),
        Section("reading", "How to read these numbers", _caveats(inputs)),
        *_for_each(
            inputs, lambda block: (Section("gallery", "Gallery: adversarial, purified, clean", _gallery(block)),)
        ),
        *_spaces(inputs),
        Section("curves", "Learning curves", curve_blocks(inputs)),
        *_for_each(inputs, lambda block: (Section("psnr", "PSNR and routing", _psnr(block.scores)),)),
        Section("timings", "Timings", timings(inputs)),
        Section("quarantine", "Quarantine", quarantine(inputs)),
        Section("provenance", "Provenance", (*provenance(inputs), Text(_beside(inputs)))),
    )


def _beside(inputs: Inputs) -> str:
    """What lies beside the page."""
    kept = ["every table in tables/ (CSV, LaTeX, Markdown)", "every figure in figures/ (PNG, charts as SVG too)"]
    if any(block.scores.tiers is not None for block in inputs.blocks):
        kept.append("the worst cases in robustbench/ (JSON)")
    if inputs.predicted:
        kept.append("every prediction in predictions.parquet")
    return f"Beside this page: {listed(kept)}."


def _for_each(inputs: Inputs, sections: Callable[[ScoredClassifier], Iterable[Section]]) -> Iterator[Section]:
    """The sections of every classifier; named after it where there are several."""
    for block in inputs.blocks:
        for section in sections(block):
            yield section if len(inputs.blocks) == 1 else _named_after(section, block.name)


def _named_after(section: Section, classifier: str) -> Section:
    blocks = tuple(
        replace(block, name=f"{classifier}/{block.name}") if isinstance(block, Figure | Table) else block
        for block in section.blocks
    )
    return Section(f"{section.anchor}-{classifier}", f"{section.title} ({classifier})", blocks)


def _accuracy_sections(inputs: Inputs, scores: Scores | None, *, paper: bool = False) -> Iterator[Section]:
    for setting in SETTINGS:
        if setting == "vanilla" or (scores is not None and cells_of(scores, setting)):
            yield Section(setting, SETTINGS[setting], _accuracy(inputs, scores, setting, paper=paper))


def _what_was_run(inputs: Inputs) -> str:
    experiment = inputs.experiment
    if experiment is None:
        return "The experiment's configuration (experiment.json) is not here; the sections below show what is."
    rows = {(manifest.stage, manifest.name): manifest.rows for manifest in inputs.manifests}
    size = f" at {experiment.ingest.size} pixels" if experiment.ingest.size else ""
    counts = [f"{rows['ingest', split]} {split} images" for split in ("train", "test") if ("ingest", split) in rows]
    formats = listed(unique(source.format for source in experiment.ingest.sources.values()) or ("none",))
    source = f"{formats}{size}" + (f" ({', '.join(counts)})" if counts else "")
    attacks = ", ".join(
        f"{attack_label(item.name)} ({item.attack}, {_budget(item)})" for item in experiment.attack.sets
    )
    defenses = ", ".join(defense_label(item.name) for item in experiment.defenses) or "none"
    classifiers = "; ".join(map(_classifier, experiment.classifiers))
    scored = "".join(
        f" All rows{f' of {block.name}' * (len(inputs.blocks) > 1)} were scored on {block.scores.scored}."
        for block in inputs.blocks
    )
    return (
        f"Experiment {experiment.name}, seed {experiment.seed}. Images: {source}. "
        f"{''.join(map(_made, used_spaces(experiment)))}Classifiers: {classifiers}. Defenses: {defenses}. Sets of "
        "adversarial images: "
        f"{attacks}.{scored}"
    )


def _classifier(item: ClassifierConfig) -> str:
    """A classifier in words."""
    made = f"{item.recipe.epochs} epochs" if item.recipe is not None else "used as it is"
    retrained = ""
    if item.retrain is not None:
        start = "anew" if item.retrain.start == SCRATCH else f"from {item.retrain.start}"
        behind = "each defense" if item.retrain.defenses is None else listed(item.retrain.defenses)
        retrained = f", retrained {start} for {behind} in {item.retrain.epochs} epochs"
    own = "" if item.architecture == item.name else f" ({item.architecture})"
    return f"{item.name}{own}, {made}{retrained}"


def _made(space: SpaceConfig) -> str:
    """A sentence on how a space is made, with a blank after it."""
    if space.load is not None:
        return f"Space {space.name}: loaded from {space.load}. "
    dictionary = space.dictionary
    return (
        f"Space {space.name}: {space.clusters} clusters, dictionaries of {dictionary.filters} filters of {dictionary.size} x "
        f"{dictionary.size} pixels at lambda {dictionary.lmbda:g}, learned from the training images. "
    )


def _spaces(inputs: Inputs) -> tuple[Section, ...]:
    if inputs.experiment is None and not inputs.spaces:
        return (Section("spaces", "Spaces", (missing("spaces/NAME/space.json", "fit"),)),)
    return tuple(Section(f"space-{space.name}", f"Space {space.name}", space_blocks(space)) for space in inputs.spaces)


def _budget(item: Budgeted) -> str:
    size = next(
        f"{name} {value:g}" for name in ("dissimilarity", "l2", "linf") if (value := getattr(item, name)) is not None
    )
    return size if item.store == "u8" else f"{size}, float32"


def _accuracy(inputs: Inputs, scores: Scores | None, setting: str, *, paper: bool) -> tuple[Block, ...]:
    published = () if paper else _paper(inputs, setting)
    if scores is None:
        return (missing("evaluate/CLASSIFIER/scores.json", "evaluate"), *published)
    figure = charts.chart(
        f"accuracy-{setting}",
        f"{SETTINGS[setting]}: accuracy with its 95 % interval; the dotted line is chance.",
        charts.accuracy_chart,
        scores,
        setting,
    )
    sentences = verdict(scores, setting, _stl_names(inputs))
    return (
        *(Text(sentence, kind="finding") for sentence in sentences),
        accuracy_table(scores, setting),
        *published,
        figure,
        difference_table(scores, setting),
        *filter(None, [detection_table(scores, setting)]),
        *(_roc(scores) if setting == "vanilla" else ()),
    )


def _roc(scores: Scores) -> tuple[Figure, ...]:
    """The ROC curves of a block, where a defense has a detector and there is a set to tell from the clean images."""
    if not any(cell.detection is not None and cell.detection.roc for cell in scores.cells):
        return ()
    caption = (
        "ROC curves of the detectors' scores, with the classifier that is deployed behind each: the share of attacked images "
        "above a threshold, against that of clean ones. Dots: the detector's own threshold."
    )
    return (charts.chart("roc", caption, charts.roc_chart, scores),)


def _paper(inputs: Inputs, setting: str) -> tuple[Table, ...]:
    """The paper's table of CIFAR-10, unless the experiment's images are known to have another size."""
    tables = tables_at(SIZE) if _size(inputs) in (None, SIZE) else ()
    return tuple(paper_table(table) for table in tables if table.setting == setting and table.columns == COLUMNS)


def _beside_paper(inputs: Inputs, scores: Scores) -> Section:
    """The paper's tables of images of this size, with ours in their cells."""
    title, experiment = "The paper's tables, and ours", inputs.experiment
    if experiment is None:
        return Section("paper", title, (missing(Layout.experiment, "ingest"),))
    tables = tuple(beside_paper(table, experiment, scores) for table in tables_at(_size(inputs)))
    return Section("paper", title, tables or (Text(f"The paper has no table of images of {_size(inputs)} pixels."),))


def _size(inputs: Inputs) -> int | None:
    return inputs.experiment.ingest.size if inputs.experiment else None


def _attacks(scores: Scores) -> tuple[Section, ...]:
    if not scores.attacks:
        return ()
    return (Section("attacks", "What the attacks did", attack_blocks(scores.attacks)),)


def _tiers(scores: Scores) -> tuple[Section, ...]:
    if scores.tiers is None:
        return ()
    return (Section("tiers", "Attacks that know of the defense: the worst case", tier_blocks(scores.tiers)),)


def _perturbations(scores: Scores) -> tuple[Section, ...]:
    blocks = perturbation_blocks(scores)
    return (Section("perturbations", "What is left of perturbations", blocks),) if blocks else ()


def _draws(scores: Scores) -> tuple[Section, ...]:
    blocks = tuple(draw_blocks(scores))
    return (Section("draws", "Randomised defenses, drawn again and again", blocks),) if blocks else ()


def _subgroups(scores: Scores) -> tuple[Section, ...]:
    blocks = tuple(subgroup_blocks(scores))
    return (Section("subgroups", "Behind the averages: images saved and broken", blocks),) if blocks else ()


def _sweeps(inputs: Inputs, scores: Scores) -> Iterator[Section]:
    """The curves of a block, where entries of the experiment differ in one number."""
    figures = tuple(sweep_figures(inputs.experiment, scores)) if inputs.experiment else ()
    if figures:
        yield Section("sweeps", "Sweeps: accuracy over one number", figures)


def _stl_names(inputs: Inputs) -> Sequence[str]:
    if inputs.experiment is None:
        return STL_DEFENSES
    return [item.name for item in inputs.experiment.defenses if item.defense in STL_DEFENSES]


def _caveats(inputs: Inputs) -> tuple[Block, ...]:
    texts = []
    experiment = inputs.experiment
    if experiment is not None and "photographs" in {source.format for source in experiment.ingest.sources.values()}:
        texts.append(
            "The images are crops of ten photographs. Crops of one photograph are not independent of each other, so the "
            "intervals, which take them to be, are too narrow as statements about photographs in general."
        )
    texts += [
        *unique(sentence for block in inputs.blocks for sentence in threat_sentences(block.scores)),
        *(threat_sentences(None) if not inputs.blocks else ()),
        "Images that a classifier has wrong when clean count as errors in every column. No defense in the retrained "
        "setting is the vanilla classifier; every other row there was trained and tested on its own defense's output.",
    ]
    return tuple(Text(text, kind="caveat") for text in texts)


def _gallery(block: ScoredClassifier) -> tuple[Block, ...]:
    if block.gallery is None:
        return (missing("evaluate/CLASSIFIER/gallery.parquet", "evaluate"),)
    if not block.gallery:
        return (Text("No images were asked for (evaluate.gallery: 0)."),)
    return gallery_blocks(block.gallery, block.scores.class_names)


def _psnr(scores: Scores) -> tuple[Block, ...]:
    blocks: list[Block] = []
    if any(cell.psnr is not None for cell in scores.cells):
        caption = "Mean PSNR of what the classifier sees against the clean image, over the images that differ from it."
        blocks.append(charts.chart("psnr", caption, charts.psnr_chart, scores))
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
    blocks.append(Table("cells", "Every cell of the tables", tuple(columns), tuple(rows), footnote, folded=True))
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

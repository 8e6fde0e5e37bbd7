"""How the spaces and the classifiers were learned: their quality, and the curves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stl_ray.report import charts
from stl_ray.report.blocks import Block, Figure, Text, missing
from stl_ray.report.inputs import Inputs
from stl_ray.report.portrait import candidate_figure, filter_figure
from stl_ray.report.records import AutoencoderEpoch, Curves, DictionaryIteration, TrainingEpoch
from stl_ray.report.spaces import ShownSpace
from stl_ray.store import Layout


def space_blocks(space: ShownSpace) -> tuple[Block, ...]:
    """A space: where it is from, the quality of its autoencoder, the numbers of clusters compared, its filters, its curves."""
    folder, prefix = Layout.space(space.name), f"space-{space.name}"
    blocks: list[Block] = []
    if space.loaded_from is not None:
        blocks.append(Text(f"Loaded from {space.loaded_from}."))
    if space.problem:
        blocks.append(Text(f"It cannot be read from here: {space.problem}.", kind="missing"))
    elif space.stored is None:
        blocks.append(missing(f"{folder}/space.json", "fit"))
    if space.curves is not None:
        blocks += _denoising(space.curves.autoencoder)
        if space.curves.clusters.candidates:
            blocks.append(candidate_figure(space.curves.clusters.candidates, len(space.curves.clusters.sizes)))
    if space.stored is not None:
        blocks += filter_figure(space.stored)
    if space.curves is not None:
        blocks += _curves(space.curves)
    elif space.loaded_from is None and space.stored is not None:
        blocks.append(missing(Layout.curves(space.name), "fit"))
    # A figure's name is that of a file, and every space has its own.
    return tuple(
        replace(block, name=f"{prefix}-{block.name}") if isinstance(block, Figure) else block for block in blocks
    )


def _denoising(epochs: Sequence[AutoencoderEpoch]) -> tuple[Text, ...]:
    """The denoising gain of the autoencoder that was kept; nothing where it was not measured."""
    if not epochs:
        return ()
    kept = min(epochs, key=lambda epoch: epoch.validation_loss)
    if kept.noisy_psnr is None:
        return ()
    finding = (
        f"The denoising autoencoder (epoch {kept.epoch} of {len(epochs)}, the one of the least validation loss) takes "
        f"noisy held-out images from {kept.noisy_psnr:.2f} dB to {kept.psnr:.2f} dB PSNR against the clean ones."
    )
    if kept.psnr > kept.noisy_psnr:
        return (Text(finding),)
    worse = "It blurs more than it denoises; more images or epochs may help."
    return (Text(f"{finding} {worse}", kind="caveat"),)


def _curves(curves: Curves) -> list[Figure]:
    """The learning curves of a space."""
    figures = []
    if curves.autoencoder:
        caption = "The denoising autoencoder, whose latents route the images."
        figures.append(charts.chart("autoencoder", caption, charts.autoencoder_chart, curves.autoencoder))
    if curves.dictionaries:
        caption = f"Dictionary learning, universal and per cluster.{_convergence(curves.dictionaries)}"
        figures.append(charts.chart("dictionaries", caption, charts.dictionary_chart, curves.dictionaries))
    return figures


def curve_blocks(inputs: Inputs) -> tuple[Block, ...]:
    """The learning curves of the classifiers."""
    if not inputs.training:
        experiment = inputs.experiment
        if experiment is not None and not any(item.trained or item.retrain for item in experiment.classifiers):
            return (Text("No classifier is trained here: all are used as they are."),)
        return (missing("train/CLASSIFIER/metrics.jsonl", "train"),)
    caption = f"The classifiers, vanilla and retrained.{_validation(inputs.training)}"
    return (charts.chart("curves-classifiers", caption, charts.training_chart, inputs.training),)


def _validation(classifiers: Mapping[str, Sequence[TrainingEpoch]]) -> str:
    """The meaning of the dashes; empty where there are none."""
    if all(epoch.validation_loss is None for epochs in classifiers.values() for epoch in epochs):
        return ""
    return (
        " Lines: augmented training images, each at its step. Dashes: the test split, as it is; the last epoch's weights are "
        "kept whatever they say, so the tables do not owe their classifier to the images that they count."
    )


def _convergence(dictionaries: Mapping[str, Sequence[DictionaryIteration]]) -> str:
    """How many dictionaries have converged; empty where that is not known."""
    ends = [steps[-1].converged for steps in dictionaries.values() if steps]
    if None in ends:
        return ""
    converged = ends.count(True)
    rest = "" if converged == len(ends) else "; the others used up their iterations"
    return f" {converged} of {len(ends)} have converged{rest}."

"""How the space and the classifiers were learned: their quality, and the curves."""

from collections.abc import Mapping, Sequence

from stl_ray.report import charts
from stl_ray.report.blocks import Block, Figure, Text, missing
from stl_ray.report.inputs import Inputs
from stl_ray.report.portrait import candidate_figure, filter_figure
from stl_ray.report.records import AutoencoderEpoch, DictionaryIteration, TrainingEpoch


def space_blocks(inputs: Inputs) -> tuple[Block, ...]:
    """The space: the quality of its autoencoder, the numbers of clusters compared, and its filters."""
    blocks: list[Block] = []
    curves = inputs.curves
    if curves is not None:
        blocks += _denoising(curves.autoencoder)
        if curves.clusters.candidates:
            blocks.append(candidate_figure(curves.clusters.candidates, len(curves.clusters.sizes)))
    blocks += (missing("space/space.json", "fit"),) if inputs.space is None else filter_figure(inputs.space)
    return tuple(blocks)


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


def curve_blocks(inputs: Inputs) -> tuple[Block, ...]:
    """The learning curves of the space and of the classifiers."""
    blocks: list[Block] = []
    curves = inputs.curves
    if curves is None:
        blocks.append(missing("fit/curves.json", "fit"))
    else:
        if curves.autoencoder:
            png = charts.to_png(charts.autoencoder_chart, curves.autoencoder)
            blocks.append(
                Figure("curves-autoencoder", "The denoising autoencoder, whose latents route the images.", png)
            )
        if curves.dictionaries:
            png = charts.to_png(charts.dictionary_chart, curves.dictionaries)
            caption = f"Dictionary learning, universal and per cluster.{_convergence(curves.dictionaries)}"
            blocks.append(Figure("curves-dictionaries", caption, png))
    if inputs.training:
        png = charts.to_png(charts.training_chart, inputs.training)
        caption = f"The classifiers, vanilla and retrained.{_validation(inputs.training)}"
        blocks.append(Figure("curves-classifiers", caption, png))
    else:
        blocks.append(missing("train/CLASSIFIER/metrics.jsonl", "train"))
    return tuple(blocks)


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

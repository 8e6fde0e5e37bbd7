"""Fitting the stratified space: the autoencoder, the clusters, a dictionary for each, the assembled space.

Source: Sun et al. 2019, sections 3.1 and 3.2. `fit_space` does it all on one machine; the job `fit` runs the same steps
side by side.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from stl_ray.config.spaces import AutoencoderConfig, DictionaryConfig, FitConfig
from stl_ray.csc import check_images, learn_dictionary
from stl_ray.errors import TensorError, TrainingError
from stl_ray.space import Autoencoder, QuasiNaturalSpace, encode, thumbnails
from stl_ray.space.pretrained import load_autoencoder
from stl_ray.space.space import RANGE_SLACK
from stl_ray.training.space.autoencoder import new_autoencoder, train_autoencoder
from stl_ray.training.space.clusters import Clustering, cluster_latents, cluster_name
from stl_ray.training.space.dictionaries import UNIVERSAL, DictionarySample, LearnedDictionary, sample_dictionaries


def fit_space(
    images: Tensor,
    ids: Sequence[str],
    config: FitConfig,
    *,
    seed: int,
    report: Callable[[str], object] = lambda line: None,
) -> QuasiNaturalSpace:
    """Fit a space to images in memory, in this process, without Ray.

    Args:
        images: (N, 3, H, W) float32 RGB in [0, 1], square.
        ids: the N image ids.
        config: everything about the fit; `workers` and `gpu` are not used.
        seed: the run seed.
        report: receives a line for every epoch and iteration, such as `print`.

    Raises:
        TrainingError: there are too few images, or not one id of its own for each.
        TensorError: the images are of another shape, type or range, too flat, or too much alike.
        ArtifactError: a pretrained autoencoder cannot be read.
    """
    _check(images, ids, config)
    small = thumbnails(images, config.autoencoder.side)
    autoencoder, quality = _autoencoder(small, config.autoencoder, seed, report)
    clustering = cluster_latents(autoencoder, encode(autoencoder, small).numpy(), ids, config, seed=seed)
    report(f"clusters of {', '.join(map(str, clustering.router.clusters.sizes))} images")
    samples = sample_dictionaries(clustering.labels, config.dictionary, clusters=config.clusters, seed=seed)
    learned = {sample.name: _learned(sample, images, ids, config.dictionary, seed, report) for sample in samples}
    provenance = {"seed": seed, "images": len(images), "autoencoder": quality}
    return assemble(
        clustering, small[clustering.central], learned, config, resolution=images.shape[-1], provenance=provenance
    )


def _check(images: Tensor, ids: Sequence[str], config: FitConfig) -> None:
    if len(ids) != len(images) or len(set(ids)) != len(ids):
        raise TrainingError("one id of its own for each image", expected=len(images), got=f"{len(set(ids))} different")
    if images.dim() == 4 and images.shape[2] != images.shape[3]:
        raise TensorError("images that are not square", expected="(N, 3, H, H)", got=tuple(images.shape))
    check_images(images[:1], 3, config.dictionary.size)
    low, high = images.flatten(1).aminmax(dim=1)
    # NaN is in no range.
    wrong = (~((low >= -RANGE_SLACK) & (high <= 1 + RANGE_SLACK))).nonzero()[:, 0].tolist()
    if wrong:
        got = f"[{low[wrong[0]]:g}, {high[wrong[0]]:g}]"
        raise TensorError("pixels out of range", item=ids[wrong[0]], expected="[0, 1]", got=got)


def _autoencoder(
    small: Tensor, config: AutoencoderConfig, seed: int, report: Callable[[str], object]
) -> tuple[Autoencoder, dict[str, Any]]:
    """The autoencoder and the figures of its training."""
    if config.pretrained is not None:
        autoencoder, meta, _ = load_autoencoder(config.pretrained)
        return autoencoder, quality_of(meta)
    best = epoch = None
    for epoch in train_autoencoder(new_autoencoder(config.side, seed=seed), small, config, seed=seed):
        best = epoch if epoch.best or best is None else best
        report(f"autoencoder epoch {epoch.epoch}: loss {epoch.validation_loss:.4f}, PSNR {epoch.psnr:.2f} dB")
    if epoch is None or best is None:
        raise TrainingError("the autoencoder was not trained", expected="at least one epoch")
    return epoch.autoencoder(), quality_of({**best.row(), "epochs": epoch.epoch})


def _learned(
    sample: DictionarySample,
    images: Tensor,
    ids: Sequence[str],
    config: DictionaryConfig,
    seed: int,
    report: Callable[[str], object],
) -> LearnedDictionary:
    dictionary, curve = None, []
    for step in learn_dictionary(
        images[sample.learn],
        config,
        seed=seed,
        name=sample.name,
        holdout=images[sample.holdout],
        ids=[ids[index] for index in sample.learn],
        holdout_ids=[ids[index] for index in sample.holdout],
    ):
        dictionary = step.dictionary
        curve.append(step.row())
        report(f"{sample.name} iteration {step.iteration}: held-out objective {step.holdout_objective:.4g}")
    if dictionary is None:
        raise AssertionError("the configuration asks for at least one iteration")
    return LearnedDictionary(dictionary, curve, len(sample.learn), len(sample.holdout))


def quality_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of an autoencoder's record that the provenance of a space keeps."""
    return {key: record.get(key) for key in ("epochs", "validation_loss", "psnr", "noisy_psnr")}


def assemble(
    strata: Clustering,
    samples: Tensor,
    learned: Mapping[str, LearnedDictionary],
    config: FitConfig,
    *,
    resolution: int,
    provenance: Mapping[str, Any],
) -> QuasiNaturalSpace:
    """The space of a clustering and the dictionaries by name.

    Args:
        strata: with M clusters.
        samples: (M, n, 3, side, side) uint8, thumbnails of the images `strata.central`.
        learned: `universal` and one for each cluster.
        config: of the fit.
        resolution: side of the training images in pixels.
        provenance: JSON-able record of how it was made; what is known of clusters and dictionaries is added.
    """
    universal = learned[UNIVERSAL].dictionary
    sizes = strata.router.clusters.sizes
    record = {
        **provenance,
        "fit": config.recipe(),
        "clusters": {"sizes": list(sizes), "candidates": strata.candidates},
        "dictionaries": {name: one.summary(config.dictionary.method) for name, one in learned.items()},
    }
    return QuasiNaturalSpace(
        universal,
        tuple(learned[cluster_name(cluster)].dictionary for cluster in range(len(sizes))),
        universal.lmbda,
        strata.router,
        resolution,
        record,
        samples,
    )

"""The defenses by name: a new one is one file and one row."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from stl_ray.config.classifiers import is_function
from stl_ray.defenses.base import Defense, Transformation
from stl_ray.defenses.bit_depth import BitDepth, BitDepthOptions
from stl_ray.defenses.d3 import D3, D3Options
from stl_ray.defenses.detector import Detecting
from stl_ray.defenses.diffusion import Diffusion, DiffusionOptions
from stl_ray.defenses.ensemble import WHOLE, CropEnsembleOptions, Ensemble, EnsembleOptions, require_member
from stl_ray.defenses.gaussian_filter import GaussianFilter, GaussianFilterOptions
from stl_ray.defenses.jpeg import Jpeg, JpegOptions
from stl_ray.defenses.lid import LidOptions, LocalIntrinsicDimension
from stl_ray.defenses.magnet import MagNet, MagnetOptions, RefusingMagNet
from stl_ray.defenses.mean_filter import MeanFilter, MeanFilterOptions
from stl_ray.defenses.median_filter import MedianFilter, MedianFilterOptions
from stl_ray.defenses.options import DefenseOptions, Resources
from stl_ray.defenses.own import OwnTransformation, own_defense
from stl_ray.defenses.own_options import own_options
from stl_ray.defenses.pixel_defend import PixelDefend, PixelDefendOptions
from stl_ray.defenses.pixel_deflection import PixelDeflection, PixelDeflectionOptions
from stl_ray.defenses.quilting import Quilting, QuiltingOptions
from stl_ray.defenses.resize_pad import ResizePad, ResizePadOptions
from stl_ray.defenses.robust_classifier import RobustClassifier, RobustClassifierOptions
from stl_ray.defenses.stl import SparseTransformation, StlOptions
from stl_ray.defenses.stochastic_activation_pruning import PruningOptions, StochasticActivationPruning
from stl_ray.defenses.tvm import TotalVariation, TvmOptions
from stl_ray.defenses.undefended import Undefended
from stl_ray.defenses.wavelets import WaveletDenoising, WaveletOptions
from stl_ray.errors import ConfigError
from stl_ray.options import nearest, with_options
from stl_ray.space import QuasiNaturalSpace


class Row(NamedTuple):
    """The options of a defense, its class, its maker from options and resources, and whether the space that it requires
    must have clusters."""

    options: type[DefenseOptions]
    defense: type[Defense]
    make: Callable[[Any, Resources], Defense]
    clusters: bool = False


def _stl(options: StlOptions, resources: Resources) -> Defense:
    return SparseTransformation("stl", _at(options, resources["space"].universal()), options, resources["solver"])


def _stl_cluster(options: StlOptions, resources: Resources) -> Defense:
    return SparseTransformation("stl_cluster", _at(options, resources["space"]), options, resources["solver"])


def _pixel_deflection(options: PixelDeflectionOptions, resources: Resources) -> Defense:
    return PixelDeflection(options, resources["classifier"] if options.map == "rcam" else None)


def _magnet(options: MagnetOptions, resources: Resources) -> Defense:
    autoencoder = resources["artifact"]
    return RefusingMagNet(autoencoder, options) if options.refuse else MagNet(autoencoder)


def _diffusion(options: DiffusionOptions, resources: Resources) -> Defense:
    return Diffusion(resources["artifact"], options.start, options.steps or options.start, options.eta)


def _at(options: StlOptions, space: QuasiNaturalSpace) -> QuasiNaturalSpace:
    """The space at the lambda of the options."""
    return space if options.lmbda is None else replace(space, lmbda=options.lmbda)


def _ensemble(options: EnsembleOptions, resources: Resources) -> Defense:
    return Ensemble("ensemble", options.of, _members(options, resources))


def _crop_ensemble(options: CropEnsembleOptions, resources: Resources) -> Defense:
    return Ensemble("crop_ensemble", options.of, _members(options, resources), options.crops, options.share)


def _members(options: EnsembleOptions, resources: Resources) -> tuple[Transformation, ...]:
    made = {WHOLE: Undefended(), **resources.get("members", {})}
    for name in options.of:
        require_member(name, detects=isinstance(made[name], Detecting))
    return tuple(made[name] for name in options.of)


DEFENSES: dict[str, Row] = {
    "none": Row(DefenseOptions, Undefended, lambda options, resources: Undefended()),
    "jpeg": Row(JpegOptions, Jpeg, lambda options, resources: Jpeg(options.quality)),
    "bit_depth": Row(BitDepthOptions, BitDepth, lambda options, resources: BitDepth(options.bits, options.formula)),
    "median_filter": Row(MedianFilterOptions, MedianFilter, lambda options, resources: MedianFilter(options.size)),
    "mean_filter": Row(MeanFilterOptions, MeanFilter, lambda options, resources: MeanFilter(options.size)),
    "gaussian_filter": Row(
        GaussianFilterOptions, GaussianFilter, lambda options, resources: GaussianFilter(options.sigma)
    ),
    "resize_pad": Row(
        ResizePadOptions, ResizePad, lambda options, resources: ResizePad(options.smallest, options.fill)
    ),
    "tvm": Row(TvmOptions, TotalVariation, lambda options, resources: TotalVariation(options)),
    "wavelet": Row(WaveletOptions, WaveletDenoising, lambda options, resources: WaveletDenoising(options.sigma)),
    "pixel_deflection": Row(PixelDeflectionOptions, PixelDeflection, _pixel_deflection),
    "quilting": Row(QuiltingOptions, Quilting, lambda options, resources: Quilting(resources["artifact"], options)),
    "d3": Row(D3Options, D3, lambda options, resources: D3(resources["artifact"], options.sparsity, options.stride)),
    "magnet": Row(MagnetOptions, RefusingMagNet, _magnet),
    "pixel_defend": Row(
        PixelDefendOptions,
        PixelDefend,
        lambda options, resources: PixelDefend(resources["artifact"], options.eps_defend),
    ),
    "diffusion": Row(DiffusionOptions, Diffusion, _diffusion),
    "stl": Row(StlOptions, SparseTransformation, _stl),
    "stl_cluster": Row(StlOptions, SparseTransformation, _stl_cluster, clusters=True),
    "ensemble": Row(EnsembleOptions, Ensemble, _ensemble),
    "crop_ensemble": Row(CropEnsembleOptions, Ensemble, _crop_ensemble),
    "sap": Row(
        PruningOptions, StochasticActivationPruning, lambda options, resources: StochasticActivationPruning(options)
    ),
    "lid": Row(LidOptions, LocalIntrinsicDimension, lambda options, resources: LocalIntrinsicDimension(options)),
    "robust_classifier": Row(
        RobustClassifierOptions, RobustClassifier, lambda options, resources: RobustClassifier(resources["classifier"])
    ),
}


def row_of(name: str) -> Row:
    """The row of a defense: one of `DEFENSES`, or of a user's own `module:function`, whose module is imported.

    Raises:
        ConfigError: there is no such defense, or no such function; or its parameters cannot be options.
    """
    if is_function(name):
        return Row(own_options(name), OwnTransformation, lambda options, resources: own_defense(name, options))
    if name not in DEFENSES:
        raise ConfigError("unknown defense", item=name, expected=f"{nearest(name, DEFENSES)}, or module:function")
    return DEFENSES[name]


def options_of(name: str, options: Mapping[str, object]) -> DefenseOptions:
    """The options of a defense, whole and checked; they need no resources.

    Raises:
        ConfigError: if the name or an option is unknown, or an option has the wrong type or range.
    """
    return with_options(row_of(name).options, options, item=name)


def is_transformation(name: str) -> bool:
    """Whether a defense turns an image into an image, which `project` stores and a classifier is retrained on.

    Raises:
        ConfigError: if there is no such defense.
    """
    return issubclass(row_of(name).defense, Transformation)


def check_clusters(name: str, *, clustered: bool, space: str) -> None:
    """Refuse a defense that chooses among clusters for a space that has none.

    Args:
        name: a key of `DEFENSES`, or `module:function`.
        clustered: whether the space has clusters.
        space: its name or place, for the message.

    Raises:
        ConfigError: if the space does not do; or there is no such defense.
    """
    if row_of(name).clusters and not clustered:
        raise ConfigError(
            "the space has no clusters to choose among", item=name, expected="a space that was fitted, or stl for this one",
            got=space,
        )  # fmt: skip


def make_defense(name: str, options: Mapping[str, object], resources: Resources) -> Defense:
    """The defense of that name with its options.

    Args:
        name: a key of `DEFENSES`, or `module:function`.
        options: the defense's own options.
        resources: at least what it requires; "space" is the space that it projects onto (`QuasiNaturalSpace`), "solver"
            the method by which it does (a name of `stl_ray.csc.METHODS`, or "auto"), "classifier" a network that it looks
            at images with, whatever stands behind it, or lets answer (`Classifier`, in eval mode), "members" the
            transformations that it is made of, by their names, "artifact" what it is fitted with, as its recipe loads it.

    Raises:
        ConfigError: if the name or an option is unknown, an option has the wrong type or range, a resource is missing, or
            the space has no clusters where the defense chooses among them.
    """
    row, chosen = row_of(name), options_of(name, options)
    missing = sorted(chosen.requires - resources.keys())
    if missing:
        expected, got = (", ".join(sorted(names)) or "none" for names in (chosen.requires, resources))
        raise ConfigError(
            f"the defense cannot be made without {', '.join(missing)}", item=name, expected=expected, got=got
        )
    if row.clusters:
        space: QuasiNaturalSpace = resources["space"]
        check_clusters(name, clustered=space.router is not None, space=f"digest {space.digest}")
    return row.make(chosen, resources)

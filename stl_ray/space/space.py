"""The stratified quasi-natural space: dictionaries, and the router that picks one of them for an image.

Projecting onto it is the defense of Sun et al. 2019: T(x) = low band + D z with the dictionary of the image's cluster.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Literal, NamedTuple, Self, get_args

import torch
from torch import Tensor

from stl_ray.csc import Accuracy, Codes, Dictionary, Reconstruction, check_images, reconstruct
from stl_ray.errors import DictionaryError, TensorError
from stl_ray.options import require_known
from stl_ray.space.storage import SpaceParts, load_parts, save_parts

Normalization = Literal["clip", "reference"]

RANGE_SLACK = 1e-4
"""How far outside [0, 1] a pixel may lie, for rounding in attacks."""


class Projection(NamedTuple):
    """Images on the space, and how each got there.

    Attributes:
        images: (B, C, H, W) in [0, 1].
        clusters: (B,) int64, the cluster whose dictionary was used.
        codes: of the high band, with sparse coefficients.
    """

    images: Tensor
    clusters: Tensor
    codes: Codes

    @property
    def status(self) -> Tensor:
        """How every solve ended, (B,) int64, values of `stl_ray.csc.SolveStatus`."""
        return self.codes.status

    @property
    def iterations(self) -> Tensor:
        """Iterations of every solve, (B,) int64."""
        return self.codes.iterations

    @property
    def sparsity(self) -> Tensor:
        """Share of every image's coefficients that are not zero, (B,) float32."""
        return self.codes.sparsity


@dataclass(frozen=True, eq=False)
class QuasiNaturalSpace(SpaceParts):
    """A space of one cluster (no router) or of M, each with its dictionary; its arguments are those of `SpaceParts`.

    Raises:
        DictionaryError: the dictionaries differ in shape or norm, or do not fit the router's clusters.
        TensorError: the samples are no thumbnails of each cluster.
    """

    def __post_init__(self) -> None:
        clusters = 1 if self.router is None else len(self.router.clusters.centroids)
        if len(self.dictionaries) != clusters:
            raise DictionaryError("one dictionary for each cluster", expected=clusters, got=len(self.dictionaries))
        kinds = {(tuple(d.filters.shape), d.norm) for d in (self.universal_dictionary, *self.dictionaries)}
        if len(kinds) > 1:
            raise DictionaryError("dictionaries of one shape and norm", got=sorted(kinds))
        if not 0 < self.lmbda < float("inf"):
            raise DictionaryError("lambda out of range", expected="a positive number", got=self.lmbda)
        samples = self.samples
        if samples is not None and (samples.dtype != torch.uint8 or samples.dim() != 5 or len(samples) != clusters):
            expected, got = f"({clusters}, n, 3, side, side) torch.uint8", f"{tuple(samples.shape)} {samples.dtype}"
            raise TensorError("samples of other clusters", expected=expected, got=got)

    @classmethod
    def from_dictionary(cls, dictionary: Dictionary, lmbda: float | None = None) -> Self:
        """The unclustered space of one dictionary, at the lambda it was learned at unless another is given."""
        return cls(dictionary, (dictionary,), dictionary.lmbda if lmbda is None else lmbda)

    def stratum(self, cluster: int) -> Self:
        """The unclustered space of one cluster's dictionary, as if every image were routed there.

        Raises:
            TensorError: there is no such cluster.
        """
        if not 0 <= cluster < len(self.dictionaries):
            raise TensorError("unknown cluster", expected=f"0 to {len(self.dictionaries) - 1}", got=cluster)
        dictionary = self.dictionaries[cluster]
        return replace(self, universal_dictionary=dictionary, dictionaries=(dictionary,), router=None, samples=None)

    def to(self, device: torch.device | str) -> Self:
        """The same space with its router on another device; dictionaries follow the images by themselves."""
        return self if self.router is None else replace(self, router=self.router.to(device))

    @classmethod
    def load(cls, uri: str) -> Self:
        """Read a space from its folder.

        Raises:
            ArtifactError: it is missing, unreadable, altered or of another version.
        """
        parts = load_parts(uri)
        return cls(**{part.name: getattr(parts, part.name) for part in fields(parts)})

    def save(self, uri: str) -> str:
        """Write the space to a folder and return the digest of the artifact."""
        return save_parts(self, uri)

    def latents(self, images: Tensor) -> Tensor:
        """PCA latents (B, p) by which images (B, 3, H, W) in [0, 1] are routed.

        Raises:
            TensorError: the space has no router.
        """
        if self.router is None:
            raise TensorError("an unclustered space has no latents", expected="a space with a router")
        return self.router.latents(images)

    def route(self, images: Tensor, exclude: Sequence[str] | None = None) -> Tensor:
        """The cluster (B,) int64 of every image (B, C, H, W) in [0, 1].

        Args:
            images: any size.
            exclude: the images' ids; a reference image of the same id has no vote.
        """
        if self.router is None:
            return torch.zeros(len(images), dtype=torch.int64, device=images.device)
        return self.router.vote(self.router.latents(images), exclude)

    def project(
        self,
        images: Tensor,
        accuracy: str | Accuracy = "default",
        normalization: Normalization = "clip",
        exclude: Sequence[str] | None = None,
        clusters: Tensor | None = None,
        method: str = "auto",
        start: Codes | None = None,
    ) -> Projection:
        """Project every image on its own: the result does not depend on its batch mates, nor on autocast.

        Args:
            images: (B, C, H, W) RGB in [0, 1], float32 or float64, H and W >= S.
            accuracy: of the solver: "default", "reference", "exact", or tolerances of one's own.
            normalization: "clip" to [0, 1], or "reference": divide by the image's own maximum, as the authors' script.
            exclude: the images' ids, for images that the space was fitted on.
            clusters: (B,) int64, to use instead of routing.
            method: of the solver: "auto" or a name of `stl_ray.csc.METHODS`.
            start: codes of an earlier projection of similar images, to start from: for attacks and videos. The result
                then depends on them within the accuracy, so what is stored or scored starts without.

        Raises:
            TensorError: the images have another shape, type or range, or an argument is not one of these.
        """
        self.check(images)
        check_normalization(normalization)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            if clusters is None:
                clusters = self.route(images, exclude)
            raw, codes = self.reconstruct(images, clusters, accuracy, method, start)
            return Projection(divided(raw, normalization).clamp(0, 1), clusters, codes)

    def reconstruct(
        self, images: Tensor, clusters: Tensor, accuracy: str | Accuracy, method: str, start: Codes | None
    ) -> Reconstruction:
        """T before normalisation, every image by the dictionary of its cluster; arguments as for `project`.

        Raises:
            TensorError: an argument is not one of those.
        """
        if clusters.shape != images.shape[:1] or clusters.dtype != torch.int64:
            got = f"{tuple(clusters.shape)} {clusters.dtype}"
            raise TensorError("one cluster for each image", expected=f"({len(images)},) torch.int64", got=got)
        if start is not None and len(start.coefficients) != len(images):
            raise TensorError("start of another shape", expected=len(images), got=len(start.coefficients))
        groups = self.strata(clusters)
        pieces = [
            reconstruct(
                images[indices],
                dictionary,
                self.lmbda,
                method=method,
                accuracy=accuracy,
                start=None if start is None else start.select(indices),
            )
            for indices, dictionary in groups
        ]
        if len(pieces) == 1:
            return pieces[0]
        order = torch.cat([indices for indices, _ in groups]).argsort()
        raw = torch.cat([piece.images for piece in pieces]).index_select(0, order)
        return Reconstruction(raw, Codes.cat([piece.codes for piece in pieces]).select(order))

    def strata(self, clusters: Tensor) -> list[tuple[Tensor, Dictionary]]:
        """The indices of the images of every cluster that occurs in `clusters` (B,), with its dictionary.

        Raises:
            TensorError: a cluster that the space does not have.
        """
        occurring = torch.unique(clusters).tolist()
        if occurring and not 0 <= occurring[0] <= occurring[-1] < len(self.dictionaries):
            raise TensorError("unknown cluster", expected=f"0 to {len(self.dictionaries) - 1}", got=occurring)
        return [((clusters == cluster).nonzero()[:, 0], self.dictionaries[cluster]) for cluster in occurring]

    def check(self, images: Tensor) -> None:
        """Refuse images that cannot be projected; warn once of a size that the space was not learned at.

        Raises:
            TensorError: they have another shape or type, a value that is not finite, or one out of range.
        """
        check_images(images, self.universal_dictionary.channels, self.universal_dictionary.side)
        low, high = float(images.detach().min()), float(images.detach().max())
        if low < -RANGE_SLACK or high > 1 + RANGE_SLACK:
            raise TensorError("pixels out of range", expected="[0, 1]", got=f"[{low:g}, {high:g}]")
        if self.resolution is not None and tuple(images.shape[-2:]) != (self.resolution, self.resolution):
            _warn_of_size(self.resolution, images.shape[-2], images.shape[-1])


def check_normalization(normalization: Normalization) -> None:
    """Refuse an unknown normalisation.

    Raises:
        TensorError: there is no such normalisation.
    """
    require_known(normalization, get_args(Normalization), kind="normalization", error=TensorError)


def divided(images: Tensor, normalization: Normalization) -> Tensor:
    """The images before the clip to [0, 1]: "reference" divides every image by its maximum."""
    if normalization == "clip":
        return images
    peak = images.amax((1, 2, 3), keepdim=True)
    # An image without a positive pixel has nothing to be divided by.
    return images / peak.where(peak > 0, 1)


@lru_cache(maxsize=256)
def _warn_of_size(resolution: int, height: int, width: int) -> None:
    warnings.warn(
        f"the space was learned at {resolution} x {resolution} pixels and projects images of {height} x {width}",
        stacklevel=4,
    )

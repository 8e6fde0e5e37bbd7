"""The cluster of an image, by vote of its latent's nearest neighbours among the reference latents.

    image -> 8-bit thumbnail -> autoencoder -> PCA -> exact k nearest neighbours -> majority of their clusters

Source: Sun et al. 2019, section 3.2. Ties go to the cluster with the smaller summed distance. A reference image that is
routed itself is left out of its own vote, by its id.
"""

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stl_ray.csc import tile_size
from stl_ray.errors import TensorError
from stl_ray.space.autoencoder import Autoencoder
from stl_ray.space.clusters import ClusterModel, reduce
from stl_ray.space.neighbours import Neighbours
from stl_ray.tiling import in_tiles


def hash_ids(ids: Sequence[str]) -> Tensor:
    """64 bits of the SHA-256 of every id, (N,) int64: what the space stores instead of names."""
    digests = b"".join(hashlib.sha256(name.encode()).digest()[:8] for name in ids)
    return torch.from_numpy(np.frombuffer(digests, dtype="<i8").astype(np.int64))


def thumbnails(images: Tensor, side: int) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] as the autoencoder sees them, when a space is fitted as when an image is routed.

    Antialiased bilinear, clamped, rounded to 8 bits (so that a stored thumbnail is routed like its image), each image on
    its own.

    Returns:
        (B, 3, side, side) uint8.
    """

    def reduced(tile: Tensor) -> tuple[Tensor]:
        small = tile
        if tile.shape[-2:] != (side, side):
            small = functional.interpolate(tile, size=(side, side), mode="bilinear", antialias=True)
        return ((small.clamp(0, 1) * 255).round().to(torch.uint8),)

    size = tile_size(images.shape[-2], images.shape[-1], images.device)
    # One type and one memory layout, since kernels for others may round otherwise.
    return in_tiles(reduced, images.detach().float().contiguous(), size=size)[0]


@torch.no_grad()
def encode(autoencoder: Autoencoder, thumbs: Tensor) -> Tensor:
    """Latents (B, latent) float32 of thumbnails (B, 3, side, side) uint8, each on its own.

    Raises:
        TensorError: they are no thumbnails for this autoencoder.
    """
    if thumbs.dtype != torch.uint8:
        raise TensorError("not thumbnails", expected=torch.uint8, got=thumbs.dtype)

    def encoded(tile: Tensor) -> tuple[Tensor]:
        # Convolutions of few channels are several times faster with channels last.
        return (autoencoder.encode((tile.float() / 255).contiguous(memory_format=torch.channels_last)),)

    size = tile_size(autoencoder.side, autoencoder.side, thumbs.device)
    return in_tiles(encoded, thumbs, size=size)[0]


@dataclass(frozen=True, eq=False)
class Router:
    """The autoencoder, the clusters, and the vote.

    Args:
        autoencoder: in eval mode.
        clusters: PCA, centroids and reference latents.
        reference_ids: (R,) int64 by `hash_ids`, one for each reference latent.
        neighbours: k of the vote.

    Raises:
        TensorError: the parts do not fit together.
    """

    autoencoder: Autoencoder
    clusters: ClusterModel
    reference_ids: Tensor
    neighbours: int

    def __post_init__(self) -> None:
        references = len(self.clusters.latents)
        if self.reference_ids.shape != (references,) or self.clusters.labels.shape != (references,):
            raise TensorError(
                "one id and one cluster for each reference latent",
                expected=references,
                got=f"{len(self.reference_ids)} ids, {len(self.clusters.labels)} clusters",
            )
        if not 1 <= self.neighbours < references:
            raise TensorError("k out of range", expected=f"1 to {references - 1}", got=self.neighbours)
        if self.clusters.mean.shape != (self.autoencoder.latent,):
            got = tuple(self.clusters.mean.shape)
            raise TensorError("PCA of other latents", expected=(self.autoencoder.latent,), got=got)
        if self.autoencoder.training:
            raise TensorError("the autoencoder is in training mode", expected="eval mode")

    def to(self, device: torch.device | str) -> "Router":
        """The same router on another device."""
        autoencoder = deepcopy(self.autoencoder).to(device)
        return Router(autoencoder, self.clusters.to(device), self.reference_ids.to(device), self.neighbours)

    @torch.no_grad()
    def latents(self, images: Tensor) -> Tensor:
        """PCA latents (B, p) of images (B, 3, H, W) in [0, 1]."""
        codes = encode(self.autoencoder, thumbnails(images, self.autoencoder.side))
        return reduce(codes, self.clusters.mean, self.clusters.components)

    @torch.no_grad()
    def vote(self, latents: Tensor, exclude: Sequence[str] | None = None) -> Tensor:
        """The cluster (B,) int64 of every PCA latent (B, p).

        Args:
            latents: of the images.
            exclude: one id for each latent; the reference of that id has no vote.
        """
        if exclude is not None and len(exclude) != len(latents):
            raise TensorError("one id for each image", expected=len(latents), got=len(exclude))
        excluded = None if exclude is None else hash_ids(exclude).to(latents.device)
        nearest, distances = self._references.nearest(latents, self.neighbours, excluded)
        return majority(distances, self.clusters.labels[nearest], len(self.clusters.centroids))

    def nearest_centroid(self, latents: Tensor) -> Tensor:
        """The cluster (B,) int64 whose centroid is nearest to every PCA latent (B, p): what the vote is compared with."""
        return Neighbours(self.clusters.centroids).nearest(latents, 1)[0][:, 0]

    @cached_property
    def _references(self) -> Neighbours:
        return Neighbours(self.clusters.latents, self.reference_ids)


def majority(distances: Tensor, labels: Tensor, clusters: int) -> Tensor:
    """The most frequent label of every row of (B, k), ties by the smaller sum of distances, added from the nearest on."""
    votes = distances.new_zeros((len(labels), clusters))
    sums = torch.zeros_like(votes)
    every = torch.arange(clusters, device=labels.device)
    for distance, label in zip(distances.T[..., None], labels.T[..., None], strict=True):
        # An excluded reference is infinitely far.
        counted = (label == every) & distance.isfinite()
        votes += counted
        sums += distance.where(counted, 0)
    tied = votes == votes.amax(1, keepdim=True)
    return sums.masked_fill(~tied, torch.inf).argmin(1)

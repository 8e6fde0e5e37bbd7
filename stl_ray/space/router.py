"""Which stratum an image belongs to: its latent's nearest neighbours among the reference latents vote.

    image -> 32 x 32 -> autoencoder -> PCA -> exact k nearest neighbours -> majority of their clusters

Source: Sun et al. 2019, section 3.2. Ties go to the cluster with the smaller summed distance. A reference image that is
routed itself is left out of its own vote, by its id.
"""

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stl_ray.csc import tile_size
from stl_ray.errors import TensorError
from stl_ray.space.autoencoder import SIDE, Autoencoder
from stl_ray.space.clusters import ClusterModel
from stl_ray.tiling import in_tiles


def hash_ids(ids: Sequence[str]) -> Tensor:
    """64 bits of the SHA-256 of every id, (N,) int64: what the space stores instead of names."""
    digests = b"".join(hashlib.sha256(name.encode()).digest()[:8] for name in ids)
    return torch.from_numpy(np.frombuffer(digests, dtype="<i8").astype(np.int64))


def thumbnails(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) at the autoencoder's 32 x 32, antialiased."""
    if images.shape[-2:] == (SIDE, SIDE):
        return images
    return functional.interpolate(images, size=(SIDE, SIDE), mode="bilinear", antialias=True)


@torch.no_grad()
def encode(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """Latents (B, d) of images (B, 3, H, W) in [0, 1], antialiased to the autoencoder's size, each on its own."""
    size = tile_size(images.shape[-2], images.shape[-1], images.device)
    return in_tiles(lambda tile: (autoencoder.encode(thumbnails(tile)),), images.float(), size=size)[0]


@dataclass(frozen=True, eq=False)
class Router:
    """The autoencoder, the clusters, and the vote.

    Args:
        autoencoder: in eval mode.
        clusters: PCA, centroids and reference latents.
        reference_ids: (N,) int64 by `hash_ids`, one for each reference latent.
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
        if self.autoencoder.training:
            raise TensorError("the autoencoder is in training mode", expected="eval mode")

    def to(self, device: torch.device | str) -> "Router":
        """The same router on another device."""
        autoencoder = deepcopy(self.autoencoder).to(device)
        return Router(autoencoder, self.clusters.to(device), self.reference_ids.to(device), self.neighbours)

    @torch.no_grad()
    def latents(self, images: Tensor) -> Tensor:
        """PCA latents (B, p) of images (B, 3, H, W) in [0, 1]."""
        size = tile_size(SIDE, SIDE, images.device)
        mean, components = self.clusters.mean, self.clusters.components
        codes = encode(self.autoencoder, images)
        return in_tiles(lambda tile: ((tile - mean) @ components.T,), codes, size=size)[0]

    @torch.no_grad()
    def vote(self, latents: Tensor, exclude: Sequence[str] | None = None) -> Tensor:
        """The cluster (B,) int64 of every PCA latent (B, p).

        Args:
            latents: of the images.
            exclude: one id for each latent; the reference of that id has no vote.
        """
        if exclude is not None and len(exclude) != len(latents):
            raise TensorError("one id for each image", expected=len(latents), got=len(exclude))
        # No reference's hash is excluded where none is asked for: every row masks nothing.
        own = torch.zeros(len(latents), dtype=torch.int64) if exclude is None else hash_ids(exclude)
        own = own.to(latents.device)
        size = tile_size(SIDE, SIDE, latents.device)

        def vote_tile(latents: Tensor, own: Tensor) -> tuple[Tensor]:
            distances = torch.cdist(latents, self.clusters.latents, compute_mode="donot_use_mm_for_euclid_dist")
            if exclude is not None:
                distances = distances.masked_fill(own[:, None] == self.reference_ids, torch.inf)
            nearest, index = distances.topk(self.neighbours, largest=False)
            return (_majority(nearest, self.clusters.labels[index], len(self.clusters.centroids)),)

        return in_tiles(vote_tile, latents, own, size=size)[0]


def _majority(distances: Tensor, labels: Tensor, clusters: int) -> Tensor:
    """The most frequent label of every row of (B, k), ties by the smaller sum of distances."""
    zeros = distances.new_zeros((len(labels), clusters))
    votes = zeros.scatter_add(1, labels, torch.ones_like(distances))
    sums = zeros.scatter_add(1, labels, distances)
    tied = votes == votes.amax(1, keepdim=True)
    return sums.masked_fill(~tied, torch.inf).argmin(1)

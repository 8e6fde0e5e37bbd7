"""The images that every dictionary is learned from and judged by, and the learned dictionary with its curve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stl_ray.config.spaces import DictionaryConfig
from stl_ray.csc import Dictionary
from stl_ray.training.data.batches import permutation
from stl_ray.training.space.clusters import cluster_name, require_sizes

UNIVERSAL = "universal"


@dataclass(frozen=True)
class DictionarySample:
    """The training images that a dictionary is learned from, and further ones that judge it: indices, in the order in
    which they are dealt to blocks."""

    name: str
    learn: list[int]
    holdout: list[int]


def sample_dictionaries(
    labels: Tensor, config: DictionaryConfig, *, clusters: int, seed: int
) -> list[DictionarySample]:
    """A random sample of all images for the universal dictionary, and one of every cluster for its own.

    A cluster too small for both shares gives a fifth of itself to the holdout.

    Args:
        labels: (N,) int64, the cluster of every training image.
        config: images and holdout per dictionary.
        clusters: M.
        seed: the run seed.

    Raises:
        TrainingError: if a cluster has fewer than ten images.
    """
    require_sizes(torch.bincount(labels, minlength=clusters).tolist())
    members = {UNIVERSAL: torch.arange(len(labels))}
    members |= {cluster_name(cluster): (labels == cluster).nonzero()[:, 0] for cluster in range(clusters)}
    samples = []
    for name, indices in members.items():
        order = indices[permutation(len(indices), seed=seed, item=name, purpose="dictionary sample")].tolist()
        held = min(config.holdout, len(order) // 5)
        samples.append(DictionarySample(name, order[held : held + config.images], order[:held]))
    return samples


@dataclass(frozen=True)
class LearnedDictionary:
    """A dictionary and how it was learned.

    Attributes:
        dictionary: the filters.
        curve: the rows of its `LearningStep`s.
        images: number of images that it was learned from.
        holdout: number of images that judged it.
    """

    dictionary: Dictionary
    curve: Sequence[Mapping[str, Any]]
    images: int
    holdout: int

    def summary(self, method: str) -> dict[str, Any]:
        """The record in the space's provenance: how it was learned, and its figures on the holdout."""
        last = self.curve[-1]
        return {
            "method": method,
            "images": self.images,
            "holdout": self.holdout,
            "iterations": last["iteration"],
            "converged": last["converged"],
            "objective": last["holdout_objective"],
            "sparsity": last["sparsity"],
            "psnr": last["psnr"],
        }

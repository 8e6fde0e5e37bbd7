"""What an accuracy over all images hides: the images that a classifier has right to begin with, and those of each cluster."""

from dataclasses import dataclass

import numpy as np

from stl_ray.evaluation.shares import Share


@dataclass(frozen=True)
class ClusterScore:
    """The images of one cluster, by where each of them is routed when clean.

    Attributes:
        cluster: its number.
        defended: those that are right behind the defense.
        undefended: those that are right without it.
    """

    cluster: int
    defended: Share
    undefended: Share


def by_cluster(held: np.ndarray, undefended: np.ndarray, clusters: np.ndarray) -> list[ClusterScore] | None:
    """The score of every cluster that has an image; None where images have none.

    Args:
        held: (N,) bool, the images that are right behind the defense.
        undefended: (N,) bool, without it, under the same attack.
        clusters: (N,) cluster of the clean image; -1: none.
    """
    found = []
    for cluster in np.unique(clusters[clusters >= 0]).tolist():
        shares = [Share.of(values[clusters == cluster]) for values in (held, undefended)]
        found.append(ClusterScore(cluster, *filter(None, shares)))
    return found or None

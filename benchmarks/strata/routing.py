"""Where images are routed and how far attacks move them: votes at several k, and distances between latents.

Sets of images go by name, the clean ones first; row i is the same image in each.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stl_ray.seeding import seed_of
from stl_ray.space import Router
from stl_ray.space.neighbours import Neighbours
from stl_ray.space.router import majority
from stl_ray.statistics import mcnemar
from stl_ray.store.layout import CLEAN

NEIGHBOURS = (1, 3, 5, 9, 15, 25, 51, 101)
"""k of the votes that are compared, besides the space's own; those that its references suffice for."""

CENTROID = "nearest centroid"

FAR = 15
"""Of an image's nearest training latents, the one whose distance is shown beside the nearest one's."""

SIGNIFICANT = 0.05

_SEED = 0


@dataclass(frozen=True)
class Assignment:
    """What one way of assigning clusters does.

    Attributes:
        name: "k = 15", say, or CENTROID.
        neighbours: k; None for the nearest centroid.
        clusters: (N,) int64 by the name of the set.
        tied: votes of all sets in which two clusters had as many neighbours.
        own: training latents sent to their k-means cluster, with themselves left out of the vote.
        training: of so many.
    """

    name: str
    neighbours: int | None
    clusters: Mapping[str, Tensor]
    tied: int
    own: int
    training: int

    def changed(self, name: str) -> Tensor:
        """(N,) bool: images of that set in another cluster than when clean."""
        return self.clusters[name] != self.clusters[CLEAN]

    def missed(self, truth: Tensor) -> Tensor:
        """(N,) bool: images of which a version, clean or attacked, is in another cluster than `truth` (N,) says."""
        return torch.stack([clusters != truth for clusters in self.clusters.values()]).any(0)


def assignments(router: Router, latents: Mapping[str, Tensor], training: int) -> list[Assignment]:
    """The votes, by rising k, and the nearest centroid.

    Args:
        router: of the space.
        latents: (N, p) PCA latents by the name of the set.
        training: reference latents to route as well, a random sample; all where there are fewer.
    """
    model = router.clusters
    references = Neighbours(model.latents, router.reference_ids)
    ks = sorted(k for k in {*NEIGHBOURS, router.neighbours} if k < len(model.latents))
    generator = torch.Generator().manual_seed(seed_of(_SEED, "references", "training latents"))
    rows = torch.randperm(len(model.latents), generator=generator)[:training]

    def votes(queries: Tensor, exclude: Tensor | None = None) -> dict[int, tuple[Tensor, int]]:
        """By k: the clusters, and how many were tied. Neighbours come from the nearest on, so one search is enough."""
        nearest, distances = references.nearest(queries, ks[-1], exclude)
        found = model.labels[nearest]
        return {k: (majority(distances[:, :k], found[:, :k], len(model.centroids)), _tied(found[:, :k])) for k in ks}

    by_set = {name: votes(points) for name, points in latents.items()}
    again = votes(model.latents[rows], router.reference_ids[rows])
    own = model.labels[rows]
    voted = [
        Assignment(
            f"k = {k}",
            k,
            {name: found[k][0] for name, found in by_set.items()},
            sum(found[k][1] for found in by_set.values()),
            int((again[k][0] == own).sum()),
            len(rows),
        )
        for k in ks
    ]
    nearest = {name: router.nearest_centroid(points) for name, points in latents.items()}
    same = int((router.nearest_centroid(model.latents[rows]) == own).sum())
    return [*voted, Assignment(CENTROID, None, nearest, 0, same, len(rows))]


def _tied(labels: Tensor) -> int:
    counts = torch.nn.functional.one_hot(labels).sum(1)
    return int(((counts == counts.amax(1, keepdim=True)).sum(1) > 1).sum())


@dataclass(frozen=True)
class Decision:
    """Which k the rule on the page is for.

    Attributes:
        current: the space's own.
        best: with the fewest missed images, the smaller k of equals.
        chosen: one of these.
        only_current: images that only the current one misses.
        only_best: images that only the best one misses.
        p: exact McNemar, times the number of other k; at most 1.
    """

    current: Assignment
    best: Assignment
    chosen: Assignment
    only_current: int
    only_best: int
    p: float


def decide(found: list[Assignment], neighbours: int) -> Decision:
    """The space's own k, unless the one with the fewest missed images has significantly fewer."""
    truth = found[-1].clusters[CLEAN]
    voted = [assignment for assignment in found if assignment.neighbours is not None]
    current = next(assignment for assignment in voted if assignment.neighbours == neighbours)
    best = min(voted, key=lambda assignment: int(assignment.missed(truth).sum()))
    mine, others = current.missed(truth), best.missed(truth)
    only_current, only_best = int((mine & ~others).sum()), int((others & ~mine).sum())
    p = min(1.0, mcnemar(only_current, only_best) * max(1, len(voted) - 1))
    return Decision(current, best, best if p < SIGNIFICANT else current, only_current, only_best, p)


@dataclass(frozen=True)
class Distances:
    """Euclidean distances of PCA latents, (N,) float64.

    Attributes:
        attacked: of every clean image to itself attacked, by the name of the attack.
        nearest: to the nearest training latent.
        far: to the FAR-th nearest.
        pairs: to another test image, drawn at random.
    """

    attacked: Mapping[str, Tensor]
    nearest: Tensor
    far: Tensor
    pairs: Tensor


def distances(router: Router, latents: Mapping[str, Tensor]) -> Distances:
    """Distances from the clean latents (N >= 2, p)."""
    clean = latents[CLEAN].double()
    _, found = Neighbours(router.clusters.latents, router.reference_ids).nearest(
        latents[CLEAN], min(FAR, len(router.clusters.latents))
    )
    generator = torch.Generator().manual_seed(seed_of(_SEED, "test images", "random pairs"))
    order = torch.randperm(len(clean), generator=generator)
    pairs = torch.empty(len(clean), dtype=torch.float64)
    pairs[order] = (clean[order] - clean[order.roll(1)]).norm(dim=1)
    return Distances(
        {name: (points.double() - clean).norm(dim=1) for name, points in latents.items() if name != CLEAN},
        found[:, 0],
        found[:, -1],
        pairs,
    )

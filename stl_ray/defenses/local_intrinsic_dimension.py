"""LID, the local intrinsic dimension of a network's activations. Source: Ma et al. 2018 (arXiv:1801.02613), section 4.

The maximum likelihood estimate at a point, from the distances r_1 <= ... <= r_k to its nearest neighbours (equation 4;
Amsaleg et al. 2015):

    -(1/k sum_i log(r_i / r_k))^-1

The neighbours come from a minibatch of clean images' activations, 100 in the paper with k = 20 on CIFAR-10. There the point
in question, or what it was made of, is in the minibatch, and the authors' code (xingjunm/lid_adversarial_subspace_detection,
`mle_batch`) leaves the nearest out for it. Here the minibatch is of other images, and all of it counts.
"""

import torch
from torch import Tensor

from stl_ray.errors import TensorError


def local_intrinsic_dimension(activations: Tensor, clean: Tensor, neighbours: int = 20) -> Tensor:
    """The estimate at every point, each on its own; differentiable.

    Args:
        activations: (B, ...) of one layer, of the images in question.
        clean: (N, ...) of the same layer, of the minibatch, N >= 2.
        neighbours: k; where the minibatch has fewer, N.

    Returns:
        (B,) float64, not negative: 0 where a neighbour lies at the point itself, infinite where all lie equally far from it.

    Raises:
        TensorError: the layers have other shapes, or the minibatch is too small.
    """
    if activations.shape[1:] != clean.shape[1:] or len(clean) < 2:
        expected = f"at least 2 of {tuple(activations.shape[1:])}"
        raise TensorError("not a minibatch for these activations", expected=expected, got=tuple(clean.shape))
    points, references = (tensor.flatten(1).double() for tensor in (activations, clean))
    # By differences: by products, cdist loses small distances, and its answers change with the number of points.
    distances = torch.cdist(points, references, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.sort(dim=1).values[:, :neighbours]
    apart = nearest[:, :1] > 0
    nearest = nearest.where(apart, 1)  # zero has no logarithm, and what is not chosen below would have a derivative
    inverse = (nearest / nearest[:, -1:]).log().mean(1).abs()  # of logarithms that are not positive
    spread = inverse > 0
    return torch.where(apart[:, 0], torch.where(spread, 1 / inverse.where(spread, 1), torch.inf), 0)

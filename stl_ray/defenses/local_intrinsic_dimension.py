"""LID, the local intrinsic dimension of a network's activations. Source: Ma et al. 2018 (arXiv:1801.02613), section 4.

The maximum likelihood estimate at a point, from the distances r_1 <= ... <= r_k to its nearest neighbours (equation 4;
Amsaleg et al. 2015):

    -(1/k sum_i log(r_i / r_k))^-1

The neighbours come from a minibatch of clean images' activations, 100 in the paper with k = 20 on CIFAR-10. The authors' code
(xingjunm/lid_adversarial_subspace_detection, `mle_batch`) leaves the nearest of them out, which is the point itself for a
clean image of the minibatch, and for the adversarial version of one usually what it was made of; so does this.
"""

import torch
from torch import Tensor

from stl_ray.errors import TensorError


def local_intrinsic_dimension(activations: Tensor, clean: Tensor, neighbours: int = 20) -> Tensor:
    """The estimate at every point, each on its own.

    Args:
        activations: (B, ...) of one layer, of the images in question.
        clean: (N, ...) of the same layer, of the minibatch, N >= 2.
        neighbours: k; where the minibatch has fewer, N - 1.

    Returns:
        (B,) float64, not negative: 0 where some of the neighbours lie at the point itself, infinite where all lie equally
        far from it.

    Raises:
        TensorError: the layers have other shapes, or the minibatch is too small.
    """
    if activations.shape[1:] != clean.shape[1:] or len(clean) < 2:
        expected = f"at least 2 of {tuple(activations.shape[1:])}"
        raise TensorError("not a minibatch for these activations", expected=expected, got=tuple(clean.shape))
    points, references = (tensor.flatten(1).double() for tensor in (activations, clean))
    # By differences: by products, cdist loses small distances, and its answers change with the number of points.
    distances = torch.cdist(points, references, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.sort(dim=1).values[:, 1 : neighbours + 1]
    inverse = (nearest / nearest[:, -1:]).log().mean(1).abs()  # of logarithms that are not positive
    return 1 / inverse.where(nearest[:, 0] > 0, torch.inf)

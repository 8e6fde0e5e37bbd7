"""THE SOLVER: convolutional sparse coding; no Ray, no prints.

dictionary   filters, their norm convention and lambda
fourier      the transform of images, the same on any number of threads
operator     D x and its adjoint, the C x C solves, spectra cached per size
prox         soft threshold and clip
tiles        how many images are solved at once
bands        the Tikhonov split and its adjoint
codes        what a solve returns, its status, the accuracy tiers
admm         the solver in torch, on any device and in any precision
active_set   the solver for CPUs, in the native core
native       the native core: whether it was built, and its instruction sets
fused        the solver for GPUs, in Triton
certificate  objective and duality gap in float64
certified    the exact tier of methods in single precision
cbpdn        `solve_cbpdn`, the one entrance
projection   low band + D z, the map T before clipping
gradient     exact vector-Jacobian product of the projection
learning     dictionary learning: consensus and online

Letters, as in the papers: d filters, x and y coefficient maps, u scaled dual variable, rho penalty, lmbda the l1
weight, s the signal (an image's high band); the suffix f marks the frequency domain.
"""

from stl_ray.csc.bands import split_bands
from stl_ray.csc.cbpdn import METHODS, check_images, check_method, choose_method, solve_cbpdn, tolerances
from stl_ray.csc.codes import ACCURACIES, Accuracy, Codes, Descent, SolveStatus, Splitting
from stl_ray.csc.dictionary import Dictionary
from stl_ray.csc.gradient import projection_vjp
from stl_ray.csc.learning import LearningStep, learn_dictionary
from stl_ray.csc.operator import operator_of
from stl_ray.csc.projection import Reconstruction, reconstruct
from stl_ray.csc.tiles import tile_size

__all__ = [
    "ACCURACIES",
    "METHODS",
    "Accuracy",
    "Codes",
    "Descent",
    "Dictionary",
    "LearningStep",
    "Reconstruction",
    "SolveStatus",
    "Splitting",
    "check_images",
    "check_method",
    "choose_method",
    "learn_dictionary",
    "operator_of",
    "projection_vjp",
    "reconstruct",
    "solve_cbpdn",
    "split_bands",
    "tile_size",
    "tolerances",
]

"""How good a dictionary is: the CBPDN objective of images that it was not learned from, at the reference tier."""

from dataclasses import dataclass
from math import log10, sqrt

import torch
from scipy.stats import norm
from torch import Tensor

from benchmarks.common.images import LMBDA
from stl_ray.csc import Dictionary, solve_cbpdn
from stl_ray.statistics import Interval


@dataclass(frozen=True)
class HoldoutScore:
    """What a dictionary makes of the held-out images.

    Attributes:
        objectives: (N,) float64, 1/2 ||s - D z||^2 + lambda ||z||_1 of every image.
        sparsity: share of the coefficients that are not zero, mean over the images.
        psnr: dB, of the mean squared error of the unclipped projection over all pixels.
    """

    objectives: Tensor
    sparsity: float
    psnr: float

    @property
    def objective(self) -> float:
        """Mean over the images."""
        return float(self.objectives.mean())


def judge(dictionary: Dictionary, highpass: Tensor) -> HoldoutScore:
    """Code the high bands (N, C, H, W) with the dictionary, every dictionary alike."""
    codes = solve_cbpdn(highpass, dictionary, LMBDA, accuracy="reference").sparse()
    coefficients = codes.coefficients.coalesce()
    l1 = torch.bincount(coefficients.indices()[0], coefficients.values().double().abs(), minlength=len(highpass))
    error = (highpass.double() - codes.synthesis.double()).square().sum((1, 2, 3))
    return HoldoutScore(
        error / 2 + LMBDA * l1, float(codes.sparsity.mean()), -10 * log10(float(error.sum()) / highpass.numel())
    )


def difference(ours: HoldoutScore, base: HoldoutScore) -> Interval:
    """Ours minus base of the mean objective in per cent of base's, with the 95 % interval of the paired differences.

    The interval (normal) is over images like the held-out ones, for these two dictionaries as they are.
    """
    differences = ours.objectives - base.objectives
    half = norm.ppf(0.975) * float(differences.std()) / sqrt(len(differences)) if len(differences) > 1 else float("nan")
    middle, percent = float(differences.mean()), 100 / base.objective
    return Interval(percent * middle, percent * (middle - half), percent * (middle + half))

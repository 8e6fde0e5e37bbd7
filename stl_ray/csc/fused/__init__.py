"""CBPDN on a GPU: the iteration of `admm` in Triton kernels, image by image the same stopping rule and the same statuses.

solver         the method: the loop over iterations, the exact tier, where it runs
forms          two forms of an iteration, what each moves and computes, and what was not done
map_kernels    kernels that touch the K maps
image_kernels  kernels that touch images only

Nothing here imports Triton before a solve asks for it.
"""

from stl_ray.csc.fused.solver import available, images_at_once, solve, solve_in_form

__all__ = ["available", "images_at_once", "solve", "solve_in_form"]

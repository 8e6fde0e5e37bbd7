"""THE STRATIFIED SPACE: which images count as natural, and the projection onto them.

autoencoder  the denoising autoencoder whose latents route images
clusters     PCA and k-means++ over latents
neighbours   exact k nearest neighbours by matrix products
router       image -> thumbnail -> latent -> nearest neighbours' vote
space        QuasiNaturalSpace: route, project
storage      the parts of a space, and the space as an artifact
imported     the space of one of the authors' published dictionaries
pretrained   the autoencoder as an artifact of its own
layer        SparseTransformationLayer, the projection with a gradient
no_compile   calls that torch.compile does not trace
"""

from stl_ray.space.autoencoder import Autoencoder
from stl_ray.space.clusters import ClusterModel, diagnose, fit_clusters, with_references
from stl_ray.space.imported import imported_space
from stl_ray.space.layer import Gradient, SparseTransformationLayer
from stl_ray.space.router import Router, encode, hash_ids, thumbnails
from stl_ray.space.space import Projection, QuasiNaturalSpace

__all__ = [
    "Autoencoder",
    "ClusterModel",
    "Gradient",
    "Projection",
    "QuasiNaturalSpace",
    "Router",
    "SparseTransformationLayer",
    "diagnose",
    "encode",
    "fit_clusters",
    "hash_ids",
    "imported_space",
    "thumbnails",
    "with_references",
]

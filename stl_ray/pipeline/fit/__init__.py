"""FIT: clean training shards -> stratified spaces (spaces/NAME) and what other defenses are fitted with (artifacts/), in
steps, each with what it writes below fit/.

space_fit       one space to fit, and the folders of its steps
thumbnails      training images -> 8-bit thumbnails (a run)
autoencoder     thumbnails -> the denoising autoencoder, by Ray Train
latents         thumbnails -> the autoencoder's latents (a run)
clusters        latents -> the router, and the cluster of every image
samples         the images that dictionaries are learned from (a run)
block_workers   actors that hold blocks of those images
dictionaries    samples -> a dictionary for all images and one for each cluster
artifacts       what other defenses are fitted with, by the kind of it
patches         patches of the training images at random or salient places (a run)
saliency        a classifier that training images are looked at with
d3              patches -> the dictionary of D3
networks        networks of defenses, by Ray Train
windows         patches -> a network that is trained on them
quilting        patches -> the library of image quilting
job             the steps, one after the other
"""

from stl_ray.pipeline.fit.job import run

__all__ = ["run"]

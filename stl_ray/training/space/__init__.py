"""SPACE: the stratified space, learned on one machine.

fit_space      the whole fit
autoencoder    a generator that trains the denoising autoencoder and yields after every epoch
denoising      one epoch of it
clusters       from latents to the router, and the cluster of every training image
dictionaries   the images that a dictionary is learned from
"""

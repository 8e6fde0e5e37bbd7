"""SPACE: how the stratified space is learned on one machine.

fit_space      the whole of it
autoencoder    a generator that trains the denoising autoencoder and yields after every epoch
denoising      one epoch of it
clusters       from latents to the router, and the cluster of every training image
dictionaries   which images a dictionary is learned from
"""

"""DEFENSES: what defenses are fitted from training images, on one machine.

patches           patches of an image at random places, and those of them that are kept
patch_dictionary  the dictionary of D3
saliency          where an image decides what a classifier says of it
magnet            the autoencoder of MagNet, epoch by epoch
diffusion         the denoiser of purification by diffusion, epoch by epoch
"""

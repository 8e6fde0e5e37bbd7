"""DEFENSES: what defenses are fitted from training images, on one machine.

patches           patches of an image at random places, and those of them that are kept
patch_dictionary  the dictionary of D3
saliency          where an image decides what a classifier says of it
networks          networks, epoch by epoch
magnet            the autoencoder of MagNet
pixel_cnn         the network of PixelDefend
diffusion         the denoiser of purification by diffusion
"""

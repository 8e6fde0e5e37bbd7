"""DEFENSES: what defenses are fitted from training images, on one machine.

quilting      the library of patches
"""

"""DATA: the input of training.

source         the interface by which training reads images
cache          a dataset's images on a node's own disk
cache_build    the making of that copy, and the audit of its dataset
batches        the order of an epoch, its batches, and the part of each worker
loader         batches, read and augmented ahead of the steps by other processes
augmentation   crops, flips, colours, by (seed, epoch, image id)
sizes          the sizes of an epoch, and whether the network takes them
labels         labels that fit the classes, and their balance
"""

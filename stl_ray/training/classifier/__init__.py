"""CLASSIFIER: how one is trained.

loop              one generator that trains and yields after every epoch
step_inputs       from a batch to what a step sees of it
recipe            the optimizer, the learning rate step by step, the averaged weights
adversarial       images attacked while training
mixing            mixup and CutMix
validation        loss and accuracy on images as they are
metrics           what a training tells of itself
checkpoint        an interrupted training as tensors
nan_guard         losses, by the ids of their images, and weights that are not finite
"""

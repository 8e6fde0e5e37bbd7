"""CLASSIFIER: the training of one.

loop              one generator that trains and yields after every epoch
step_inputs       from a batch to the inputs of a step
recipe            the optimizer, the learning rate step by step, the averaged weights
adversarial       images attacked while training
mixing            mixup and CutMix
validation        loss and accuracy on images without augmentation
metrics           the figures of a training, and its callbacks
checkpoint        an interrupted training as tensors
nan_guard         losses, by the ids of their images, and weights that are not finite
"""

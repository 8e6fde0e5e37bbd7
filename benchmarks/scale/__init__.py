"""What the run protocol and its driver cost at the size of ImageNet.

python -m benchmarks.scale   beside bare listings and loops: results/imagenet-scale.md
"""

"""Speed of defenses beside their original formulations, printed as ratios from one run.

python -m benchmarks.defenses.pixel_deflection   deflection pixel by pixel, scikit-image's wavelet denoising
"""

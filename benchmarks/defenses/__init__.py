"""Speed of defenses beside their original formulations, printed as ratios from one run.

python -m benchmarks.defenses                    total variation minimisation by scikit-image: results/defenses-speed.md
python -m benchmarks.defenses.d3                 matching pursuit, patch by patch, by scikit-learn
python -m benchmarks.defenses.diffusion          time and memory of the gradient by recomputed steps, and of the whole graph
python -m benchmarks.defenses.pixel_deflection   deflection pixel by pixel, scikit-image's wavelet denoising
python -m benchmarks.defenses.quilting           the search for patches beside faiss; images a second
"""

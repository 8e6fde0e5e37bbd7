"""Speed of defenses beside their original formulations, printed as ratios from one run; and their verdicts beside the paper's.

python -m benchmarks.defenses                    every defense, and tvm in detail: results/defenses-speed.md
python -m benchmarks.defenses.d3                 matching pursuit, patch by patch, by scikit-learn
python -m benchmarks.defenses.diffusion          time and memory of the gradient by recomputed steps, and of the whole graph
python -m benchmarks.defenses.pixel_defend       decoding by the whole network for every pixel
python -m benchmarks.defenses.pixel_deflection   deflection pixel by pixel, scikit-image's wavelet denoising
python -m benchmarks.defenses.quilting           the search for patches beside faiss; images a second
python -m benchmarks.defenses.faithfulness       verdicts beside the paper's tables: results/defenses.md and its pages
"""

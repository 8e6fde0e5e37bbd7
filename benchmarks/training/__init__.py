"""How fast classifiers are trained, and how fast their images are loaded.

python -m benchmarks.training          by the jobs, on one worker and on two: results/training-cpu.md, -gpu.md
python -m benchmarks.training.loader   beside torchvision's ImageFolder and Ray Data: results/loader-cpu.md, -gpu.md
"""

"""How fast and how exact T(x) is.

python -m benchmarks.projection       beside SPORCO as the authors' script runs it, on a CPU: results/projection-cpu.md
python -m benchmarks.projection.gpu   beside what a GPU's memory and matrix units can do: results/projection-gpu.md
"""

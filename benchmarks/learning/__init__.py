"""How fast dictionaries are learned, and how good they are on images that they were not learned from.

python -m benchmarks.learning           CPU time to equal objectives, beside SPORCO: results/learning.md
python -m benchmarks.learning.authors   beside the authors' published dictionaries: results/dictionaries.md
"""

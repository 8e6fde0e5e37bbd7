"""What it costs that a space learned at one resolution projects and routes images of another.

python -m benchmarks.resolutions   beside dictionaries and routers of the images' own resolution: results/resolutions.md
"""

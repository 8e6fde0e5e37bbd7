"""How fast defenses are, beside the formulations that they come from.

python -m benchmarks.defenses   on a CPU, one row of the registry after the other: results/defenses-speed.md
"""

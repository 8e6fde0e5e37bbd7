"""What the strata of a fitted space are worth, and how fast images are routed to them.

python -m benchmarks.strata                 stratified beside universal, under attack: results/strata.md
python -m benchmarks.strata.routing_speed   exact routing beside scikit-learn: results/routing-cpu.md
"""

"""What the shard runner costs and loses on one machine.

python -m benchmarks.runner       beside a bare loop and the same written with Ray Data: results/runner.md
python -m benchmarks.runner.gpu   one actor beside the bare projection on a GPU: results/runner-gpu.md
"""

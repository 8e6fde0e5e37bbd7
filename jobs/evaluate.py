"""`ray job submit --working-dir . -- python jobs/evaluate.py CONFIG [key=value ...]`; the same as `stl-ray evaluate`."""

import sys

from stl_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))

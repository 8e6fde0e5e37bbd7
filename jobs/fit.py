"""`ray job submit --working-dir . -- python jobs/fit.py CONFIG [key=value ...]`; the same as `stl-ray fit`."""

import sys

from stl_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["fit", *sys.argv[1:]]))

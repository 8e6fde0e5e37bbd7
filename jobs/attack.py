"""`ray job submit --working-dir . -- python jobs/attack.py CONFIG [key=value ...]`; the same as `stl-ray attack`."""

import sys

from stl_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["attack", *sys.argv[1:]]))

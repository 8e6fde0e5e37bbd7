"""`ray job submit --working-dir . -- python jobs/train.py CONFIG [key=value ...]`; the same as `stl-ray train`."""

import sys

from stl_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))

"""`ray job submit --working-dir . -- python jobs/report.py CONFIG [key=value ...]`; the same as `stl-ray report`."""

import sys

from stl_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))

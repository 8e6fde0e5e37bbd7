"""`ray job submit --working-dir . -- python jobs/project.py CONFIG [key=value ...]`; the same as `stl-ray project`."""

import sys

from stl_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["project", *sys.argv[1:]]))
